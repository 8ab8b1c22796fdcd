// Where the log is, here and elsewhere.

import { ask } from "./bank.js";
import { $, count, make, name } from "./dom.js";

export async function refresh() {
  const status = await ask("/v1/status");
  $("sum").textContent = `${count(status.accounts)} accounts, ${count(status.committed)} records`;
  const lines = [
    ["log", `${count(status.durable)} of ${count(status.committed)} records safe from a power cut`],
    ...status.projections.map((one) => [one.name, `${one.state}, at ${count(one.position)}`]),
    ["transfers", `${status.transfers.state}, settled to ${count(status.transfers.settled)}`],
    ["replica", far(status.replication)],
    ["Kafka", far(status.publishing)],
    ["readers", count(status.readers)],
  ];
  $("status").replaceChildren(...lines.flatMap(([what, says]) => [make("dt", {}, what), make("dd", {}, says)]));
  const parked = status.parked.map((one) => make("li", {}, name(one.stream), ` (${one.by}): `, name(one.reason)));
  const more = status.parked_count - status.parked.length;
  if (more > 0) parked.push(make("li", {}, `and ${count(more)} more`));
  if (parked.length === 0) parked.push(make("li", {}, "none"));
  $("parked").replaceChildren(...parked);
}

function far(sink) {
  if (sink === null) return "off";
  return `${sink.state}; ${count(sink.lag_events)} records, ${sink.lag_seconds.toFixed(1)} s behind; ${count(sink.parked)} parked`;
}
