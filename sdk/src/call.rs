//! The call in flight.

#[cfg(not(target_family = "wasm"))]
pub use crate::testkit::call::Call;
#[cfg(target_family = "wasm")]
pub use crate::wit::witgate::plugin::exchange::Call;

/// Where a request says how many answers it wants: `OpenAI`'s word, and Gemini's two spellings.
const COUNTS: [&str; 3] = ["/n", "/generationConfig/candidateCount", "/generation_config/candidate_count"];

impl Call {
    /// Returns how many answers the client asked for; 1 unless it said.
    pub fn choices(&self) -> usize {
        let counts = self.get_many(&COUNTS.map(str::to_owned));
        counts.into_iter().flatten().find_map(|json| json.trim().parse().ok()).unwrap_or(1)
    }

    /// Returns the text at a JSON Pointer, without quotes and escapes; `None` if there is no such value or it is no
    /// string.
    #[cfg(feature = "json")]
    pub fn get_str(&self, pointer: &str) -> Option<String> {
        self.get_as(pointer)
    }

    /// Returns the value at a JSON Pointer; `None` if there is no such value or it is of another type.
    #[cfg(feature = "json")]
    pub fn get_as<T: serde::de::DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        serde_json::from_str(&self.get(pointer)?).ok()
    }

    /// Sets the value at a JSON Pointer; parents that are missing are made.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the pointer, or why the value is no JSON.
    #[cfg(feature = "json")]
    pub fn set_value<T: serde::Serialize + ?Sized>(&self, pointer: &str, value: &T) -> Result<(), String> {
        let json = serde_json::to_string(value).map_err(|error| error.to_string())?;
        self.set(pointer, &json)
    }
}
