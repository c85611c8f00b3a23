//! What a rule does to a request.

use serde_json::Number;
use witgate_sdk::{Call, Rejection};

use crate::json;
use crate::settings::{Clamp, Headers, System, Then};
use crate::when::Request;

/// What stands between the system prompt and what comes before or after it.
const SEPARATOR: &str = "\n\n";

impl Then {
    /// Edits a request or refuses it.
    pub(crate) fn apply(&self, request: &mut Request<'_>) -> Result<(), Rejection> {
        let call = request.call;
        for (key, value) in &self.tag {
            call.tag(key, value);
        }
        if let Some(reject) = &self.reject {
            return Err(Rejection::new(reject.status, reject.code.as_str(), reject.message.as_str()));
        }
        if let Some(model) = &self.model {
            set(call, "/model", &json::string(model))?;
            request.rename_model(model);
        }
        // A form has no fields: pointers mean nothing there.
        if self.edits_fields() && call.body_len() > 0 {
            self.edit_fields(call)?;
        }
        if let Some(system) = &self.system {
            system.apply(call)?;
        }
        self.headers.apply(call)
    }

    fn edits_fields(&self) -> bool {
        !(self.remove.is_empty() && self.set.is_empty() && self.default.is_empty() && self.clamp.is_empty())
    }

    fn edit_fields(&self, call: &Call) -> Result<(), Rejection> {
        for pointer in &self.remove {
            call.remove(pointer)?;
        }
        for (pointer, value) in &self.set {
            set(call, pointer, value.text())?;
        }
        for (pointer, value) in &self.default {
            if call.get(pointer).is_none() {
                set(call, pointer, value.text())?;
            }
        }
        for (pointer, bounds) in &self.clamp {
            if let Some(bound) = call.get(pointer).and_then(|value| bounds.crossed(&value)) {
                set(call, pointer, &bound.to_string())?;
            }
        }
        Ok(())
    }
}

/// Sets a field. Pointer and value were checked at the start, so that it is the client's document that has no place for it.
fn set(call: &Call, pointer: &str, json: &str) -> Result<(), Rejection> {
    let refused =
        |problem| Rejection::new(400, "invalid_request", format!("`{pointer}` cannot be set: {problem}"));
    call.set(pointer, json).map_err(refused)
}

impl Clamp {
    /// The bound that takes the place of a value; none if the value is within, or no number.
    fn crossed(&self, json: &str) -> Option<&Number> {
        let value = json::number(json)?;
        let is_below = |bound: &&Number| bound.as_f64().is_some_and(|bound| value < bound);
        let is_above = |bound: &&Number| bound.as_f64().is_some_and(|bound| value > bound);
        self.min.as_ref().filter(is_below).or_else(|| self.max.as_ref().filter(is_above))
    }
}

impl System {
    fn apply(&self, call: &Call) -> Result<(), Rejection> {
        let messages = call.messages();
        if messages.is_empty() {
            return Ok(());
        }
        let mut prompts =
            messages.iter().filter(|message| matches!(message.role.as_str(), "system" | "developer"));
        let Some(first) = prompts.next() else {
            call.insert_message(0, "system", &self.joined(""))?;
            return Ok(());
        };
        if self.replace.is_none() {
            call.set_message(first.index, &self.joined(&first.text))?;
            return Ok(());
        }
        // From the last one on, so that the places of the others stay what they are.
        for other in prompts.rev() {
            call.remove_message(other.index)?;
        }
        call.set_message(first.index, &self.joined(""))?;
        Ok(())
    }

    /// The new prompt. What is empty needs no separator.
    fn joined(&self, prompt: &str) -> String {
        if let Some(text) = &self.replace {
            return text.clone();
        }
        let parts = [self.prepend.as_deref().unwrap_or(""), prompt, self.append.as_deref().unwrap_or("")];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(self.separator.as_deref().unwrap_or(SEPARATOR))
    }
}

impl Headers {
    fn apply(&self, call: &Call) -> Result<(), Rejection> {
        for name in &self.remove {
            call.remove_header(name)?;
        }
        for (name, value) in &self.set {
            call.set_header(name, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_brought_within_its_bounds() {
        #[track_caller]
        fn check(min: &str, max: &str, json: &str, bound: Option<&str>) {
            let number = |json: &str| serde_json::from_str(json).ok();
            let bounds = Clamp { min: number(min), max: number(max) };
            assert_eq!(bounds.crossed(json).map(Number::to_string).as_deref(), bound, "{json}");
        }
        check("", "4096", "8192", Some("4096"));
        check("", "4096", "4096", None);
        check("", "0.7", "1.0", Some("0.7"));
        check("1", "", "-3", Some("1"));
        check("0", "2", "1e9", Some("2"));
        check("0", "2", "1e400", Some("2"));
        check("0", "2", "-1e400", Some("0"));
        check("0", "2", "1e-400", None);
        check("0", "2", r#""9""#, None);
        check("0", "2", "null", None);
        check("0", "2", "true", None);
    }

    #[test]
    fn parts_of_a_prompt_are_parted() {
        #[track_caller]
        fn check(prepend: &str, prompt: &str, append: &str, expected: &str) {
            let some = |text: &str| Some(text.to_owned());
            let system = System { prepend: some(prepend), append: some(append), ..System::default() };
            assert_eq!(system.joined(prompt), expected);
        }
        check("a", "b", "c", "a\n\nb\n\nc");
        check("", "b", "c", "b\n\nc");
        check("a", "", "", "a");
    }
}
