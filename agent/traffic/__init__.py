"""Pure request-path logic, as plain functions of (state, input, now): routes, balancing, outliers, timers."""
