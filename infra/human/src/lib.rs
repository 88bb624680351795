//! Counts, sizes, durations and texts as people read them: the same in progress lines, tables, messages
//! and reports.
//!
//! ```
//! assert_eq!(vintage_human::grouped(1_234_567), "1,234,567");
//! assert_eq!(vintage_human::size(3 << 29), "1.50 GiB");
//! assert_eq!(vintage_human::duration(185.0), "3 min 05 s");
//! assert_eq!(vintage_human::one_line("1+1=\n2", 80), "1+1=⏎2");
//! ```

mod measured;
mod prompt;

pub use measured::Measured;
pub use prompt::prompt_line;

/// Formats `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats bytes in MiB, and from 1 GiB on in GiB.
pub fn size(bytes: u64) -> String {
    if bytes < 1 << 30 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else {
        format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
    }
}

/// Formats seconds as `45 s`, `3 min 05 s` or `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Formats a text as one line of at most `most` characters, without control characters. A long text
/// loses its middle: the question of a prompt and the answer of a completion are at the end.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.trim().chars() {
        match char {
            '\n' => line.push('⏎'),
            char if char.is_control() => line.extend(char.escape_default()),
            char => line.push(char),
        }
    }
    let count = line.chars().count();
    if count <= most {
        return line;
    }
    let head = most / 3;
    let tail = most.saturating_sub(head + 3);
    let first: String = line.chars().take(head).collect();
    let last: String = line.chars().skip(count - tail).collect();
    format!("{first} … {last}")
}

#[cfg(test)]
mod tests {
    use super::{duration, grouped, one_line};

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end_on_one_line() {
        assert_eq!(one_line(" 1+1=\n", 40), "1+1=");
        assert_eq!(one_line("a\nb\u{1b}[2J", 40), "a⏎b\\u{1b}[2J");
        let long = format!("begin {} the answer is 42", "é".repeat(500));
        let line = one_line(&long, 60);
        assert_eq!(line.chars().count(), 60);
        assert!(line.starts_with("begin ") && line.ends_with("answer is 42"));
    }

    #[test]
    fn numbers_and_durations_read_well() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(duration(7.4), "7 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
    }
}
