/**
 * The process around the operator: lifetime, periodic work, health and metrics over HTTP, logging, graceful shutdown,
 * and the runner of the connection test's checks.
 *
 * @module
 */

export { type Check, type CheckOptions, type Finding, runChecks } from "./check_runner.ts";
export { askReadiness } from "./healthcheck.ts";
export { Health, type HealthStatus } from "./health.ts";
export { Lifetime } from "./lifetime.ts";
export { type LoggingOptions, startLogging } from "./logging.ts";
export { type Metric, METRICS, Metrics, noMetrics } from "./metrics.ts";
export { every, hourly } from "./periodic.ts";
export { becomeReady, type ReadinessOptions } from "./readiness.ts";
export { type HealthServer, serveHealth } from "./http_server.ts";
export { type Process, Shutdown } from "./shutdown.ts";
