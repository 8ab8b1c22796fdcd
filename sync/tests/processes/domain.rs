//! A small process: an order takes goods out of a stock, or is refused, or expires.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use tidelog::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub enum StockEvent {
    Filled { goods: u64 },
    Taken { goods: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stock {
    pub goods: u64,
}

impl Aggregate for Stock {
    const TYPE: &'static str = "Stock";
    type Event = StockEvent;
    type Error = Infallible;
    fn apply(stock: Option<Self>, event: &StockEvent) -> Result<Self, Infallible> {
        let goods = stock.map_or(0, |stock| stock.goods);
        Ok(Self {
            goods: match event {
                StockEvent::Filled { goods: more } => goods + more,
                StockEvent::Taken { goods: taken } => goods - taken,
            },
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub enum OrderEvent {
    Placed {
        stock: String,
        goods: u64,
        deadline: Option<Timestamp>,
    },
    Served,
    Refused {
        reason: String,
    },
    Expired,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    Open,
    Ended,
}

impl Aggregate for Order {
    const TYPE: &'static str = "Order";
    type Event = OrderEvent;
    type Error = Infallible;
    fn apply(_: Option<Self>, event: &OrderEvent) -> Result<Self, Infallible> {
        Ok(match event {
            OrderEvent::Placed { .. } => Self::Open,
            _ => Self::Ended,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct No(pub &'static str);

macro_rules! commands {
    ($($name:ident on $aggregate:ty { $($field:ident: $type:ty),* } $state:ident, $command:ident, $context:ident => $decide:expr;)*) => {
        $(
            #[derive(Clone, Debug)]
            pub struct $name { pub id: String, $(pub $field: $type),* }
            impl Command for $name {
                type Aggregate = $aggregate;
                fn target_aggregate_identifier(&self) -> Option<&str> { Some(&self.id) }
            }
            impl Decide<$name> for $aggregate {
                type Rejection = No;
                fn decide($state: Option<&Self>, $command: &$name, $context: &Context) -> Result<Vec<Self::Event>, No> { $decide }
            }
        )*
    };
}

commands! {
    Fill on Stock { goods: u64 } _state, command, _c => Ok(vec![StockEvent::Filled { goods: command.goods }]);
    Take on Stock { goods: u64 } state, command, _c => {
        if state.map_or(0, |stock| stock.goods) < command.goods {
            return Err(No("there is not enough"));
        }
        Ok(vec![StockEvent::Taken { goods: command.goods }])
    };
    Place on Order { stock: String, goods: u64, within: Option<i64> } _state, command, context => {
        let deadline = command.within.map(|micros| {
            Timestamp::from_micros(context.now().as_micros() + micros)
        });
        let (stock, goods) = (command.stock.clone(), command.goods);
        Ok(vec![OrderEvent::Placed { stock, goods, deadline }])
    };
    Record on Order { refusal: Option<String> } state, command, _c => match (state, &command.refusal) {
        (Some(Order::Ended), _) => Err(No("it has ended")),
        (_, None) => Ok(vec![OrderEvent::Served]),
        (_, Some(reason)) => Ok(vec![OrderEvent::Refused { reason: reason.clone() }]),
    };
    Expire on Order {} state, _command, _c => match state {
        Some(Order::Open) => Ok(vec![OrderEvent::Expired]),
        _ => Err(No("it has ended")),
    };
    Nothing on Order {} _state, _command, _c => Ok(vec![]);
}

/// What the manager does wrong, on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Right,
    /// Takes without recording the outcome.
    WithoutOutcome,
    RecordsNothing,
    RecordsElsewhere,
    /// Only sets and clears timers.
    TimersOnly,
    /// Only sets timers.
    NeverClears,
    /// Cannot say what an event of the order `odd` does to its timer.
    CannotSay,
}

pub struct Orders(pub Kind);

impl ProcessManager for Orders {
    const NAME: &'static str = "orders";

    fn on(
        &self,
        event: &EventEnvelope,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        let id = event.aggregate_id().to_owned();
        for fact in event.of::<Order>()? {
            let OrderEvent::Placed { stock, goods, .. } = fact else {
                continue;
            };
            let take = Take { id: stock, goods };
            let id = id.clone();
            match self.0 {
                Kind::Right => then.step(take, move |outcome| Record {
                    id,
                    refusal: outcome.err().map(|no| no.to_string()),
                }),
                Kind::WithoutOutcome => then.execute(take),
                Kind::RecordsNothing => then.step(take, move |_| Nothing { id }),
                Kind::RecordsElsewhere => then.step(take, move |_| Record {
                    id: id + "-other",
                    refusal: None,
                }),
                Kind::TimersOnly | Kind::NeverClears | Kind::CannotSay => {}
            }
        }
        Ok(())
    }

    fn timer(&self, event: &EventEnvelope) -> Result<TimerChange, HandlerError> {
        let mut change = TimerChange::Keep;
        if self.0 == Kind::CannotSay && event.aggregate_id() == "odd" {
            return Err(HandlerError::permanent("no idea"));
        }
        for fact in event.of::<Order>()? {
            change = match fact {
                OrderEvent::Placed { deadline, .. } => {
                    deadline.map_or(TimerChange::Keep, TimerChange::Set)
                }
                _ if self.0 == Kind::NeverClears => TimerChange::Keep,
                _ => TimerChange::Clear,
            };
        }
        Ok(change)
    }

    fn on_timer(
        &self,
        stream: &StreamId,
        _: Timestamp,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        let id = stream.aggregate_id().to_owned();
        then.execute(Expire { id });
        Ok(())
    }
}
