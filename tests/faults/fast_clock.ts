/**
 * Has the monotonic clock go 5,000 times as fast, so that a quarter of an hour is over in 180 ms: to be loaded before the
 * program. Waits take as long as ever.
 *
 * @module
 */

const now = performance.now.bind(performance);
performance.now = () => now() * 5_000;
