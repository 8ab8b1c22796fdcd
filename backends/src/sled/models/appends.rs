//! The hand-over of appends: by both faces, beside each other, while callers give up and the store
//! is closed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use shuttle::future;
use shuttle::sync::Mutex;
use shuttle::thread::{self, JoinHandle};
use tidelog_core::{Error, EventStore};

use super::scene::{Answer, Scene, batch, check_answers, id};
use super::{GivesUp, choose, explore};
use crate::sled::SledStore;
use crate::sled::signal::Signal;

/// Two of them fill the first segment.
const PAYLOAD: usize = 1_500;
/// Room for one such append, or for a few small ones.
const QUEUE: usize = 2_000;

type Answers = Vec<(u64, Answer)>;

/// Appends one after the other on the caller's own thread.
fn blocking(store: SledStore, numbers: [u64; 2]) -> JoinHandle<Answers> {
    thread::spawn(move || {
        let face = store.blocking();
        let append = |n| (n, future::block_on(face.inner().append(batch("b", n, 10))));
        numbers.map(append).into()
    })
}

/// Two appends under way at once on one task, asked for in this order.
fn concurrent(store: SledStore, numbers: [u64; 2]) -> JoinHandle<Answers> {
    thread::spawn(move || {
        let [first, second] = numbers.map(|n| store.append(batch("c", n, PAYLOAD)));
        let answers = future::block_on(both(first, second));
        if let (Ok(first), Ok(second)) = (&answers.0, &answers.1) {
            assert!(first.first_position < second.first_position);
        }
        assert!(
            answers.0.is_ok() || answers.1.is_err(),
            "the second passed the first"
        );
        vec![(numbers[0], answers.0), (numbers[1], answers.1)]
    })
}

async fn both<F: Future>(first: F, second: F) -> (F::Output, F::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    std::future::poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            one = Some(done);
        }
        if other.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            other = Some(done);
        }
        if one.is_some() && other.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    (one.unwrap(), other.unwrap())
}

/// An append whose future is dropped after some polls, wherever that leaves it.
fn gives_up(store: SledStore, n: u64) -> JoinHandle<Option<Answer>> {
    thread::spawn(move || {
        let append = store.append(batch("g", n, PAYLOAD));
        future::block_on(GivesUp::after(choose(4), append))
    })
}

fn check_empty(scene: &Scene) {
    assert_eq!(
        scene.shared.gate.load(),
        (0, 0),
        "bytes inside, and who waits"
    );
    assert!(
        scene.shared.queue.take().is_none(),
        "nobody answers it any more"
    );
}

#[test]
fn each_append_is_answered_once_whoever_gives_up() {
    explore("appends", || {
        let mut scene = Scene::new(QUEUE);
        let clients = [
            blocking(scene.handle(), [1, 2]),
            concurrent(scene.handle(), [3, 4]),
        ];
        let gives_up = gives_up(scene.handle(), 5);
        // Whoever is done last closes the store.
        scene.drop_handle();
        let answers = clients.map(|client| client.join().unwrap()).concat();
        let left = gives_up.join().unwrap();
        let log = scene.log();
        check_answers(&log, &answers);
        assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
        let found = log.iter().filter(|event| event.event_id == id(5)).count();
        assert!(found <= 1 && (found == 1 || left.is_none()));
        check_empty(&scene);
    });
}

#[test]
fn what_a_closing_store_refuses_is_not_in_the_log_and_nobody_waits_for_ever() {
    explore("appends and closing", || {
        let scene = Scene::new(QUEUE);
        let clients = [
            blocking(scene.handle(), [1, 2]),
            concurrent(scene.handle(), [3, 4]),
        ];
        let gives_up = gives_up(scene.handle(), 5);
        let other = scene.handle();
        let closer = thread::spawn(move || other.close_blocking());
        if choose(2) == 0 {
            scene.handle().crash();
        } else {
            scene.handle().close_blocking().unwrap();
        }
        // Whoever closed it first, it is closed now.
        let refused = future::block_on(scene.handle().append(batch("late", 6, 10)));
        closer.join().unwrap().unwrap();
        let mut answers = clients.map(|client| client.join().unwrap()).concat();
        answers.push((6, refused));
        let left = gives_up.join().unwrap();
        let log = scene.log();
        if let Some(left) = left {
            answers.push((5, left));
        }
        check_answers(&log, &answers);
        assert!(matches!(
            answers.last(),
            Some((_, Ok(_) | Err(Error::Closed)))
        ));
        check_empty(&scene);
    });
}

/// A task that is over as soon as it is woken, as when its executor is gone.
struct Ends {
    append: Mutex<Option<Pin<Box<dyn Future<Output = Answer> + Send>>>>,
    ended: Arc<Signal>,
}

impl Wake for Ends {
    fn wake(self: Arc<Self>) {
        let append = self.append.lock().unwrap().take();
        // Its handle may be the store's last one.
        drop(append);
        self.ended.notify();
    }
}

#[test]
fn a_waker_may_drop_the_task_and_the_last_handle_on_the_stores_own_thread() {
    explore("the last handle in a waker", || {
        let mut scene = Scene::new(QUEUE);
        let store = scene.handle();
        let append = async move { store.append(batch("w", 1, PAYLOAD)).await };
        let other = gives_up(scene.handle(), 2);
        scene.drop_handle();
        let task = Arc::new(Ends {
            append: Mutex::new(Some(Box::pin(append))),
            ended: Arc::default(),
        });
        let waker = Waker::from(Arc::clone(&task));
        let ended = task.ended.listen();
        let answer = match &mut *task.append.lock().unwrap() {
            Some(append) => append.as_mut().poll(&mut Context::from_waker(&waker)),
            None => Poll::Pending,
        };
        let mut answers = Vec::new();
        match answer {
            Poll::Ready(answer) => answers.push((1, answer)),
            Poll::Pending => future::block_on(ended),
        }
        drop(task.append.lock().unwrap().take());
        let log = scene.log();
        check_answers(&log, &answers);
        let found = log.iter().filter(|event| event.event_id == id(1)).count();
        assert!(found <= 1);
        other.join().unwrap();
        scene.wait_until_closed();
        check_empty(&scene);
    });
}
