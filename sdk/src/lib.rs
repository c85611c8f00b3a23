//! What a witgate plugin is written with.
