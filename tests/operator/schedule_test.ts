/**
 * When up-times begin and end. What is expected is told by clocks on the wall (`Intl.DateTimeFormat`), which the code
 * doesn't ask: it reckons with Temporal.
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { readConfig, type UpTime } from "../../lib/config/mod.ts";
import { type Edge, Schedule } from "../../lib/operator/schedule.ts";

const minute = 60_000, hour = 60 * minute, day = 24 * hour;

/** The schedule, as it is written in the environment. */
function schedule(text: string): Schedule {
  return new Schedule(upTimes(text));
}

function upTimes(text: string): readonly UpTime[] {
  const env = { MATRIX_USER: "t", MATRIX_PASSWORD: "p", ALLOWED_USERS: "@a:h", SCHEDULE: text };
  return readConfig(env, { inCluster: false, terminal: false, readFile: () => "" }).schedule;
}

/** Edges later than `fromMs`, up to `toMs`, found one after the other. */
function edges(of: Schedule, fromMs: number, toMs: number): Edge[] {
  const found: Edge[] = [];
  for (let nowMs = fromMs;;) {
    const { nextBegin, nextEnd } = of.at(nowMs);
    const next = [nextBegin, nextEnd].filter((edge) => edge !== undefined).toSorted((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined || next.atMs > toMs) return found;
    found.push(next);
    nowMs = next.atMs;
  }
}

/** Such as `begin 2026-03-28T07:00Z`. */
function written(found: readonly Edge[]): string[] {
  return found.map(({ kind, atMs }) => `${kind} ${new Date(atMs).toISOString().replace(":00.000", "")}`);
}

/** Day of the week and minute of the day, by a clock on the wall. */
function clockOf(timeZone: string): (atMs: number) => { readonly date: string; readonly minute: number } {
  const format = new Intl.DateTimeFormat("sv-SE", {
    timeZone,
    ...{ dateStyle: "short", timeStyle: "short" },
  });
  return (atMs) => {
    const [date = "", time = ""] = format.format(atMs).split(" ");
    const [hours = "", minutes = ""] = time.split(":");
    return { date, minute: Number(hours) * 60 + Number(minutes) };
  };
}

/** Whether a clock that is never turned back shows an up-time. */
function shown({ days, fromMinute, toMinute }: UpTime, { date, minute }: { date: string; minute: number }): boolean {
  const dayOf = (date: string, before: number) =>
    (new Date(Date.parse(`${date}T00:00Z`) - before * day).getUTCDay() + 6) % 7 + 1;
  const isAt = (minute: number) => fromMinute <= minute && minute < toMinute;
  return (days.includes(dayOf(date, 0)) && isAt(minute)) ||
    (days.includes(dayOf(date, 1)) && isAt(minute + 24 * 60));
}

Deno.test("Schedule.at() returns whether it is up-time, and the edges before and after", () => {
  const workdays = schedule("Mon-Fri 08:00-18:00 Europe/Berlin");
  const at = (time: string) => workdays.at(Date.parse(time));
  const edge = (kind: Edge["kind"], time: string): Edge => (
    { kind, atMs: Date.parse(time), timeZone: "Europe/Berlin" }
  );
  const text = "Mon-Fri 08:00-18:00 Europe/Berlin";
  // A Friday in winter.
  assert.deepEqual(at("2026-01-09T07:00:00Z"), {
    ...{ text, isUp: true },
    previous: edge("begin", "2026-01-09T07:00Z"),
    nextBegin: edge("begin", "2026-01-12T07:00Z"),
    nextEnd: edge("end", "2026-01-09T17:00Z"),
  });
  assert.deepEqual(at("2026-01-09T06:59:59.999Z"), {
    ...{ text, isUp: false },
    previous: edge("end", "2026-01-08T17:00Z"),
    nextBegin: edge("begin", "2026-01-09T07:00Z"),
    nextEnd: edge("end", "2026-01-09T17:00Z"),
  });
  assert.deepEqual(at("2026-01-09T17:00Z"), {
    ...{ text, isUp: false },
    previous: edge("end", "2026-01-09T17:00Z"),
    nextBegin: edge("begin", "2026-01-12T07:00Z"),
    nextEnd: edge("end", "2026-01-12T17:00Z"),
  });
});

Deno.test("Schedule has edges where people expect them, also when the clocks change", async (t) => {
  const rows: [name: string, schedule: string, from: string, to: string, ...edges: string[]][] = [
    [
      "over the weekend, and into summer time",
      "Mon-Fri 08:00-18:00 Europe/Berlin",
      ...["2026-03-27T00:00Z", "2026-03-31T00:00Z"] as const,
      ...["begin 2026-03-27T07:00Z", "end 2026-03-27T17:00Z", "begin 2026-03-30T06:00Z", "end 2026-03-30T16:00Z"],
    ],
    [
      "over midnight, begun on Friday",
      "Mon-Fri 20:00-06:00 UTC",
      ...["2026-01-09T12:00Z", "2026-01-12T12:00Z"] as const,
      ...["begin 2026-01-09T20:00Z", "end 2026-01-10T06:00Z"],
    ],
    [
      "until midnight",
      "Sun 20:00-24:00 UTC",
      ...["2026-01-05T00:00Z", "2026-01-13T00:00Z"] as const,
      ...["begin 2026-01-11T20:00Z", "end 2026-01-12T00:00Z"],
    ],
    ["always", "always", "2026-01-01T00:00Z", "2027-01-01T00:00Z"],
    ["whole days", "Mon-Sun 00:00-24:00 Europe/Berlin", "2026-01-01T00:00Z", "2027-01-01T00:00Z"],
    ["whole days, but for a minute", "Mon-Sun 00:00-23:59 UTC", "2026-01-01T00:00Z", "2027-01-01T00:00Z"],
    ["always and sometimes", "always, Mon 08:00-09:00 UTC", "2026-01-01T00:00Z", "2027-01-01T00:00Z"],
    [
      "ranges that overlap, adjoin and contain each other",
      "Mon 08:00-12:00 UTC, Mon 12:00-14:00 UTC, Mon 13:00-18:00 UTC, Mon 09:00-10:00 UTC",
      ...["2026-01-05T00:00Z", "2026-01-06T00:00Z"] as const,
      ...["begin 2026-01-05T08:00Z", "end 2026-01-05T18:00Z"],
    ],
    [
      "ranges of two zones that overlap",
      "Mon 08:00-12:00 Europe/Berlin, Mon 05:00-09:00 America/New_York",
      ...["2026-01-05T00:00Z", "2026-01-06T00:00Z"] as const,
      ...["begin 2026-01-05T07:00Z", "end 2026-01-05T14:00Z"],
    ],
    [
      "days over the end of the week",
      "Sat-Mon 10:00-11:00 UTC",
      ...["2026-01-09T00:00Z", "2026-01-14T00:00Z"] as const,
      ...["begin 2026-01-10T10:00Z", "end 2026-01-10T11:00Z", "begin 2026-01-11T10:00Z", "end 2026-01-11T11:00Z"],
      ...["begin 2026-01-12T10:00Z", "end 2026-01-12T11:00Z"],
    ],
    // Berlin's clocks leap from 02:00 to 03:00, which is 01:00 UTC.
    [
      "a begin that doesn't exist: when the clock leaps over it",
      "Sun 02:30-06:00 Europe/Berlin",
      ...["2026-03-29T00:00Z", "2026-03-30T00:00Z"] as const,
      ...["begin 2026-03-29T01:00Z", "end 2026-03-29T04:00Z"],
    ],
    [
      "an end that doesn't exist: when the clock leaps over it",
      "Sat 22:00-02:30 Europe/Berlin",
      ...["2026-03-28T12:00Z", "2026-03-30T00:00Z"] as const,
      ...["begin 2026-03-28T21:00Z", "end 2026-03-29T01:00Z"],
    ],
    [
      "a range that doesn't exist: not at all, but a week later",
      "Sun 02:15-02:45 Europe/Berlin",
      ...["2026-03-22T12:00Z", "2026-04-06T00:00Z"] as const,
      ...["begin 2026-04-05T00:15Z", "end 2026-04-05T00:45Z"],
    ],
    // Its clocks go back from 03:00 to 02:00, which is 01:00 UTC.
    [
      "a begin that occurs twice: the first time",
      "Sun 02:30-06:00 Europe/Berlin",
      ...["2026-10-25T00:00Z", "2026-10-26T00:00Z"] as const,
      ...["begin 2026-10-25T00:30Z", "end 2026-10-25T05:00Z"],
    ],
    [
      "an end that occurs twice: the first time",
      "Sat 22:00-02:30 Europe/Berlin",
      ...["2026-10-24T12:00Z", "2026-10-26T00:00Z"] as const,
      ...["begin 2026-10-24T20:00Z", "end 2026-10-25T00:30Z"],
    ],
    [
      "half an hour that doesn't exist",
      "Sun 02:15-03:00 Australia/Lord_Howe",
      ...["2026-10-03T00:00Z", "2026-10-04T00:00Z"] as const,
      ...["begin 2026-10-03T15:30Z", "end 2026-10-03T16:00Z"],
    ],
    [
      "half an hour that occurs twice",
      "Sun 01:45-03:00 Australia/Lord_Howe",
      ...["2026-04-04T00:00Z", "2026-04-05T00:00Z"] as const,
      ...["begin 2026-04-04T14:45Z", "end 2026-04-04T16:30Z"],
    ],
    [
      "a midnight that doesn't exist",
      "Sun 00:00-06:00 America/Santiago",
      ...["2026-09-06T00:00Z", "2026-09-07T00:00Z"] as const,
      ...["begin 2026-09-06T04:00Z", "end 2026-09-06T09:00Z"],
    ],
    [
      "a day that doesn't exist",
      "Fri 08:00-18:00 Pacific/Apia",
      ...["2011-12-24T12:00Z", "2012-01-07T00:00Z"] as const,
      ...["begin 2012-01-05T18:00Z", "end 2012-01-06T04:00Z"],
    ],
  ];
  for (const [name, text, from, to, ...expected] of rows) {
    await t.step(`${name}: ${text}`, () => {
      assert.deepEqual(written(edges(schedule(text), Date.parse(from), Date.parse(to))), expected);
    });
  }
});

Deno.test("Schedule has each edge once in a year, as clocks on the wall show it", async (t) => {
  const stepMs = 15 * minute;
  const [fromMs, toMs] = [Date.parse("2026-01-01T00:00Z"), Date.parse("2027-01-01T00:00Z")];
  for (const zone of ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]) {
    for (const hours of ["Mon-Fri 08:00-18:00", "Mon-Sun 20:00-06:00", "Sun 01:45-02:15", "Sat-Sun 00:30-02:45"]) {
      await t.step(`${hours} ${zone}`, () => {
        const text = `${hours} ${zone}`;
        const [upTime = assert.fail()] = upTimes(text);
        const read = clockOf(zone);
        const expected: string[] = [];
        let latest = { date: "", minute: 0 };
        let isUp: boolean | undefined;
        for (let atMs = fromMs - day; atMs <= toMs; atMs += stepMs) {
          const clock = read(atMs);
          // A clock that has been turned back shows nothing new until it has caught up.
          const isBack = clock.date < latest.date || (clock.date === latest.date && clock.minute < latest.minute);
          if (!isBack) latest = clock;
          const is = shown(upTime, latest);
          if (isUp !== undefined && is !== isUp && atMs > fromMs) {
            expected.push(...written([{ kind: is ? "begin" : "end", atMs, timeZone: zone }]));
          }
          isUp = is;
        }
        assert.ok(expected.length >= 2 * 51, `${expected.length}`);
        assert.deepEqual(written(edges(schedule(text), fromMs, toMs)), expected);
      });
    }
  }
});

Deno.test("Schedule's begins and ends take turns, and agree with whether it is up-time", () => {
  const days = fc.constantFrom("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun");
  const time = fc.nat({ max: 24 * 60 - 1 })
    .map((minutes) => `${Math.floor(minutes / 60)}:${`${minutes % 60}`.padStart(2, "0")}`);
  const zone = fc.constantFrom("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC");
  const range = fc.tuple(days, days, time, time, zone).filter(([, , from, to]) => from !== to)
    .map(([first, last, from, to, zone]) => `${first}-${last} ${from}-${to} ${zone}`);
  const nowMs = fc.integer({ min: Date.parse("2026-01-01T00:00Z"), max: Date.parse("2028-01-01T00:00Z") });
  fc.assert(
    fc.property(fc.array(range, { minLength: 1, maxLength: 4 }), nowMs, (ranges, nowMs) => {
      const tested = schedule(ranges.join(","));
      const found = edges(tested, nowMs, nowMs + 15 * day);
      const { isUp, previous } = tested.at(nowMs);
      let wasUp = isUp;
      if (previous !== undefined) assert.equal(previous.kind, isUp ? "begin" : "end");
      let before = previous?.atMs ?? -Infinity;
      for (const { kind, atMs } of found) {
        assert.equal(kind, wasUp ? "end" : "begin");
        assert.equal(tested.at(atMs - 1).isUp, wasUp);
        assert.equal(tested.at(atMs).isUp, !wasUp);
        assert.deepEqual(tested.at(atMs).previous?.atMs, atMs);
        assert.ok(wasUp || atMs - before > minute, "it is off for a minute or less");
        before = atMs;
        wasUp = !wasUp;
      }
      // Nothing depends on the time at which it was asked first.
      assert.deepEqual(schedule(ranges.join(",")).at(nowMs + 7 * day), tested.at(nowMs + 7 * day));
    }),
    { numRuns: 200 },
  );
});
