//! The arguments of a call while they come in.

/// How far the arguments of a call are: an object, of which no more than this has to be known to see its end.
#[derive(Debug, Default)]
pub(in crate::wire::openai::responses) struct Arguments {
    /// How many objects and arrays are open.
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    /// Whether the object is whole.
    pub(in crate::wire::openai::responses) is_whole: bool,
}

impl Arguments {
    /// Takes all there is of them.
    pub(in crate::wire::openai::responses) fn of(json: &str) -> Self {
        let mut arguments = Self::default();
        arguments.add(json);
        arguments
    }

    /// Takes a piece of them.
    pub(super) fn add(&mut self, json: &str) {
        for byte in json.bytes() {
            if self.is_string {
                (self.is_string, self.is_escaped) =
                    (byte != b'"' || self.is_escaped, byte == b'\\' && !self.is_escaped);
                continue;
            }
            match byte {
                b'"' => self.is_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.is_whole |= self.depth == 1;
                    self.depth = self.depth.saturating_sub(1);
                }
                _ => {}
            }
        }
    }
}
