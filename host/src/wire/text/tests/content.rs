//! The text of Google's answers.

use super::*;
