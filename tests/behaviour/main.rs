//! What clients and operators see of a running gateway that a folder case cannot say: time, order, signals, sockets.

mod admin;
mod audit;
mod audit_cli;
mod departure;
mod environment;
mod failover;
mod fuzz;
mod logs;
mod metrics;
mod models;
mod packaging;
mod page;
mod plugins;
mod reload;
mod routing;
mod shutdown;
mod streaming;
mod timeouts;
mod traces;
mod transport;
mod upload;
