/**
 * Makes the monotonic clock 5,000 times as fast, so that 15 minutes pass in 180 ms. Timers aren't affected. Preloaded
 * into the operator.
 *
 * @module
 */

const now = performance.now.bind(performance);
performance.now = () => now() * 5_000;
