//! Into which slots the past of a count is divided, and for how long each counts.

use crate::calendar;
use crate::config::check::values;
use crate::limit::meter::Span;

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// A month so far away that calendars need not know it.
const MONTHS_MAX: u64 = 12 << 20;

impl Span {
    /// The number of the slot of a moment, in milliseconds since 1970; later slots have higher numbers.
    pub(crate) fn slot(self, at_ms: u64) -> u64 {
        match self {
            Self::Window(_) => at_ms / self.slot_ms(),
            Self::Day => at_ms / DAY_MS,
            Self::Month => {
                let (year, month, _) = calendar::date((at_ms / DAY_MS).cast_signed());
                (year * 12 + month - 1).cast_unsigned()
            }
        }
    }

    /// From when on what was counted in a slot does not count, in milliseconds since 1970.
    ///
    /// A slot of a window counts until even its end is out of the window.
    pub(crate) fn end_ms(self, slot: u64) -> u64 {
        match self {
            Self::Window(_) => slot.saturating_add(Self::SLOTS + 1).saturating_mul(self.slot_ms()),
            Self::Day => slot.saturating_add(1).saturating_mul(DAY_MS),
            Self::Month => {
                let slot = slot.min(MONTHS_MAX);
                let (year, month) = ((slot / 12).cast_signed(), (slot % 12).cast_signed());
                calendar::day_number(year, month + 2, 1).cast_unsigned().saturating_mul(DAY_MS)
            }
        }
    }

    /// The length of a window's slot: [`Span::SLOTS`] of them are at least the window.
    fn slot_ms(self) -> u64 {
        let Self::Window(length) = self else { return DAY_MS };
        u64::try_from(length.as_millis()).unwrap_or(u64::MAX).div_ceil(Self::SLOTS).max(1)
    }

    /// The span as text, which [`Span::parse`] reads: `day`, `month`, or a window's length as in `60s` or `1500ms`.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Window(length) if length.subsec_millis() == 0 => format!("{}s", length.as_secs()),
            Self::Window(length) => format!("{}ms", length.as_millis()),
            Self::Day => "day".to_owned(),
            Self::Month => "month".to_owned(),
        }
    }

    /// Reads a label.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        match label {
            "day" => Some(Self::Day),
            "month" => Some(Self::Month),
            window => values::duration(window).filter(|length| !length.is_zero()).map(Self::Window),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Span = Span::Window(Duration::from_secs(60));

    #[track_caller]
    fn check(span: Span, at_ms: u64, slot: u64, end_ms: u64) {
        assert_eq!((span.slot(at_ms), span.end_ms(slot)), (slot, end_ms), "{span:?} at {at_ms}");
    }

    #[test]
    fn a_moment_is_in_one_slot_which_ends() {
        check(MINUTE, 0, 0, 61_000);
        check(MINUTE, 999, 0, 61_000);
        check(MINUTE, 1_000, 1, 62_000);
        check(Span::Window(Duration::from_millis(90)), 5, 2, 126);
        check(Span::Window(Duration::from_millis(1)), 5, 5, 66);
        check(Span::Day, DAY_MS - 1, 0, DAY_MS);
        check(Span::Day, DAY_MS, 1, 2 * DAY_MS);
        check(Span::Month, 0, 1970 * 12, 31 * DAY_MS);
        check(Span::Month, 31 * DAY_MS, 1970 * 12 + 1, 59 * DAY_MS);
        // 2024-02-29 and 2024-12-31.
        check(Span::Month, 1_709_164_800_000, 2024 * 12 + 1, 1_709_251_200_000);
        check(Span::Month, 1_735_603_200_000, 2024 * 12 + 11, 1_735_689_600_000);
    }

    #[test]
    fn a_label_is_read_again() {
        for (span, label) in [
            (MINUTE, "60s"),
            (Span::Window(Duration::from_millis(1_500)), "1500ms"),
            (Span::Day, "day"),
            (Span::Month, "month"),
        ] {
            assert_eq!((span.label().as_str(), Span::parse(label)), (label, Some(span)));
        }
        for wrong in ["", "0s", "year", "-1s"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_slot_is_too_far_away() {
        for span in [MINUTE, Span::Day] {
            assert_eq!(span.end_ms(u64::MAX), u64::MAX);
        }
        assert!(Span::Month.end_ms(u64::MAX) > Span::Month.end_ms(9999 * 12));
    }
}
