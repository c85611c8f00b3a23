//! Requests.

mod reading;
mod table;
#[cfg(test)]
mod tests;
mod writing;

pub use reading::decode_request;
pub use table::TABLE;
pub use writing::encode_request;
