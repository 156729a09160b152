//! TensorBoard's event files: TFRecords of `tensorflow.Event` protocol buffers, with scalars alone.

use crate::{eval::Metric, event::Event};

/// CRC-32C (Castagnoli), bit by bit: a record has a few hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// As TFRecord stores it.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn record(data: &[u8], out: &mut Vec<u8>) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(&length));
    out.extend(data);
    out.extend(masked(data));
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes: text or a message.
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// `Event { wall_time = 1, step = 2, .. }`, without what it holds.
fn event(time: f64, step: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(time.to_le_bytes());
    out.push(2 << 3);
    varint(step, &mut out);
    out
}

/// The first record of a file.
pub fn begin(time: f64) -> Vec<u8> {
    let mut first = event(time, 0);
    field(3, b"brain.Event:2", &mut first);
    let mut out = Vec::new();
    record(&first, &mut out);
    out
}

/// An event's numbers as a record; nothing where it has none.
pub fn scalars(told: &Event, time: f64) -> Vec<u8> {
    let (step, values) = match told {
        Event::Step(step) => (
            step.step,
            vec![
                ("train/loss".to_owned(), step.loss),
                ("train/accuracy".to_owned(), step.accuracy),
                ("train/grad_norm".to_owned(), step.grad_norm),
                ("train/learning_rate".to_owned(), step.learning_rate),
                ("train/epoch".to_owned(), step.epoch),
                ("train/tokens_per_second".to_owned(), step.tokens_per_second),
            ],
        ),
        Event::Evaluation(evaluation) => {
            let value = |metric: &Metric| Some((format!("eval/{}", metric.as_str()), metric.of(&evaluation.metrics)?));
            let measured = Metric::ALL.iter().filter(|metric| **metric != Metric::Majority);
            (evaluation.step, measured.filter_map(value).collect())
        }
        _ => return Vec::new(),
    };
    let mut summary = Vec::new();
    for (tag, value) in values {
        // `Summary.Value { tag = 1, simple_value = 2 }`
        let mut one = Vec::new();
        field(1, tag.as_bytes(), &mut one);
        one.push(2 << 3 | 5);
        one.extend((value as f32).to_le_bytes());
        field(1, &one, &mut summary);
    }
    let mut data = event(time, step);
    field(5, &summary, &mut data);
    let mut out = Vec::new();
    record(&data, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Evaluation, Metrics, When};

    #[test]
    fn sums_are_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_measurement_is_one_record() {
        let metrics = Metrics { loss: 0.5, accuracy: Some(0.75), ..Metrics::default() };
        let told = Event::Evaluation(Box::new(Evaluation {
            when: When::After,
            step: 300,
            rows: 4,
            metrics,
            ..Evaluation::default()
        }));
        let bytes = scalars(&told, 2.0);
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("length")) as usize;
        assert_eq!(bytes.len(), 8 + 4 + length + 4);
        let data = &bytes[12..12 + length];
        assert_eq!(data[..12], [9, 0, 0, 0, 0, 0, 0, 0, 64, 16, 0xac, 2], "wall time 2.0, step 300");
        let text = String::from_utf8_lossy(data);
        assert!(text.contains("eval/loss") && text.contains("eval/accuracy") && !text.contains("mse"));
        assert!(data.windows(5).any(|part| part == [2 << 3 | 5, 0, 0, 0, 0x3f]), "0.5 as a float");
    }
}
