//! Gzip (RFC 1952, 1951) up to a size. The parquet crate's own unpacks all there is, however much that comes to.

use super::{Read, damaged};

/// Codes up to this length are looked up at once.
const QUICK: u32 = 10;
/// Bits of a code at most.
const LONGEST: usize = 15;

/// The shortest length and distance of each symbol, and how many bits say what is added.
const LENGTHS: [u16; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS: [u32; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
];
const DISTANCE_BITS: [u32; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/// The order in which the lengths of the lengths' codes stand.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// All members of a gzip file; one of more than `most` bytes is damaged.
pub fn gunzip(packed: &[u8], most: usize) -> Read<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = packed;
    while !rest.is_empty() {
        rest = member(rest, most, &mut out)?;
    }
    Ok(out)
}

/// One member; returns what stands behind it.
fn member<'a>(packed: &'a [u8], most: usize, out: &mut Vec<u8>) -> Read<&'a [u8]> {
    let [0x1F, 0x8B, 8, flags, _, _, _, _, _, _, rest @ ..] = packed else { return damaged("a page is no gzip file") };
    let mut rest = rest;
    if flags & 4 != 0 {
        let Some((len, more)) = rest.split_first_chunk::<2>() else { return ends() };
        rest = more.get(usize::from(u16::from_le_bytes(*len))..).map_or_else(ends, Ok)?;
    }
    // A file's name and a comment.
    for _ in 0..((flags >> 3) & 1) + ((flags >> 4) & 1) {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else { return ends() };
        rest = &rest[end + 1..];
    }
    if flags & 2 != 0 {
        rest = rest.get(2..).map_or_else(ends, Ok)?;
    }
    let begin = out.len();
    let mut bits = Bits { data: rest, at: 0, window: 0, held: 0 };
    inflate(&mut bits, most, out)?;
    let Some((tail, rest)) = bits.whole().split_first_chunk::<8>() else { return ends() };
    let [a, b, c, d, size @ ..] = *tail;
    let unpacked = &out[begin..];
    if u32::from_le_bytes(size) != unpacked.len() as u32 || u32::from_le_bytes([a, b, c, d]) != crc(unpacked) {
        return damaged("a page's checksum is another one");
    }
    Ok(rest)
}

fn ends<T>() -> Read<T> {
    damaged("a page ends too early")
}

fn wrong<T>() -> Read<T> {
    damaged("a page cannot be unpacked")
}

/// Bits of bytes, the lowest first.
struct Bits<'a> {
    data: &'a [u8],
    /// The first byte that is not in `window`.
    at: usize,
    window: u64,
    held: u32,
}

impl<'a> Bits<'a> {
    /// As many as a length, a distance and what is added to them take together, where there are as many.
    fn fill(&mut self) {
        while self.held <= 56 {
            let Some(byte) = self.data.get(self.at) else { return };
            self.window |= u64::from(*byte) << self.held;
            self.at += 1;
            self.held += 8;
        }
    }

    fn pass(&mut self, count: u32) -> Read<()> {
        if count > self.held {
            return ends();
        }
        self.window >>= count;
        self.held -= count;
        Ok(())
    }

    /// 16 bits at most.
    fn take(&mut self, count: u32) -> Read<usize> {
        self.fill();
        let value = self.window & ((1 << count) - 1);
        self.pass(count)?;
        Ok(value as usize)
    }

    /// What begins with the next whole byte.
    fn whole(&self) -> &'a [u8] {
        &self.data[self.at - (self.held / 8) as usize..]
    }
}

/// A prefix code.
struct Code {
    /// Symbol · 16 + length of what begins with these bits; 0 where it is longer.
    quick: Vec<u16>,
    /// Symbols a length.
    counts: [u16; LONGEST + 1],
    symbols: Vec<u16>,
}

impl Code {
    /// From the length of each symbol's code; 0 where it has none.
    fn new(lengths: &[u8]) -> Read<Self> {
        let mut counts = [0_u16; LONGEST + 1];
        for length in lengths.iter().filter(|length| **length > 0) {
            counts[usize::from(*length).min(LONGEST)] += 1;
        }
        let (mut left, mut starts, mut start) = (1_i32, [0_u16; LONGEST + 1], 0);
        for (count, place) in counts.iter().zip(&mut starts).skip(1) {
            left = left * 2 - i32::from(*count);
            if left < 0 {
                return wrong();
            }
            *place = start;
            start += count;
        }
        let mut symbols = vec![0; usize::from(start)];
        for (symbol, length) in (0..).zip(lengths).filter(|(_, length)| **length > 0) {
            let place = &mut starts[usize::from(*length).min(LONGEST)];
            symbols[usize::from(*place)] = symbol;
            *place += 1;
        }
        let mut quick = vec![0; 1 << QUICK];
        let (mut code, mut next) = (0_u32, symbols.iter());
        for length in 1..=QUICK {
            for symbol in next.by_ref().take(usize::from(counts[length as usize])) {
                let begin = (code.reverse_bits() >> (32 - length)) as usize;
                let entries = quick.iter_mut().skip(begin).step_by(1 << length);
                entries.for_each(|entry| *entry = (symbol << 4) | length as u16);
                code += 1;
            }
            code <<= 1;
        }
        Ok(Self { quick, counts, symbols })
    }

    fn next(&self, bits: &mut Bits<'_>) -> Read<usize> {
        bits.fill();
        let entry = self.quick[(bits.window & ((1 << QUICK) - 1)) as usize];
        if entry > 0 {
            bits.pass(u32::from(entry & 15))?;
            return Ok(usize::from(entry >> 4));
        }
        let (mut code, mut first, mut index) = (0, 0, 0);
        for (length, count) in self.counts.iter().enumerate().skip(1) {
            code |= ((bits.window >> (length - 1)) & 1) as usize;
            let count = usize::from(*count);
            if code < first + count {
                bits.pass(length as u32)?;
                return Ok(self.symbols.get(index + code - first).copied().unwrap_or_default().into());
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        wrong()
    }
}

/// Appends what the blocks say to `out`, which begins with what came before.
fn inflate(bits: &mut Bits<'_>, most: usize, out: &mut Vec<u8>) -> Read<()> {
    let begin = out.len();
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(bits, most, out)?,
            1 => {
                let mut lengths = [8_u8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                coded(bits, &Code::new(&lengths)?, &Code::new(&[5; 30])?, most, begin, out)?;
            }
            2 => {
                let (literals, distances) = codes(bits)?;
                coded(bits, &literals, &distances, most, begin, out)?;
            }
            _ => return wrong(),
        }
        if last {
            return Ok(());
        }
    }
}

fn room(out: &[u8], more: usize, most: usize) -> Read<()> {
    if more > most - out.len().min(most) { damaged("a page unpacks to more than it says") } else { Ok(()) }
}

fn stored(bits: &mut Bits<'_>, most: usize, out: &mut Vec<u8>) -> Read<()> {
    let rest = bits.whole();
    let Some(([a, b, c, d], rest)) = rest.split_first_chunk::<4>() else { return ends() };
    let size = u16::from_le_bytes([*a, *b]);
    if size != !u16::from_le_bytes([*c, *d]) {
        return wrong();
    }
    let Some((bytes, rest)) = rest.split_at_checked(size.into()) else { return ends() };
    room(out, bytes.len(), most)?;
    out.extend_from_slice(bytes);
    (bits.at, bits.window, bits.held) = (bits.data.len() - rest.len(), 0, 0);
    Ok(())
}

/// The codes of a block that brings its own.
fn codes(bits: &mut Bits<'_>) -> Read<(Code, Code)> {
    let (literals, distances, count) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut lengths = [0; 19];
    for place in ORDER.iter().take(count) {
        lengths[*place] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths)?;
    let mut lengths: Vec<u8> = Vec::with_capacity(literals + distances);
    while lengths.len() < literals + distances {
        let (length, times) = match code.next(bits)? {
            16 => match lengths.last() {
                Some(last) => (*last, bits.take(2)? + 3),
                None => return wrong(),
            },
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    if lengths.len() > literals + distances {
        return wrong();
    }
    let (literals, distances) = lengths.split_at(literals);
    Ok((Code::new(literals)?, Code::new(distances)?))
}

fn coded(
    bits: &mut Bits<'_>,
    literals: &Code,
    distances: &Code,
    most: usize,
    begin: usize,
    out: &mut Vec<u8>,
) -> Read<()> {
    loop {
        match literals.next(bits)? {
            literal @ 0..256 => {
                room(out, 1, most)?;
                out.push(literal as u8);
            }
            256 => return Ok(()),
            symbol => {
                let length = longer(bits, symbol - 257, &LENGTHS, &LENGTH_BITS)?;
                let symbol = distances.next(bits)?;
                let distance = longer(bits, symbol, &DISTANCES, &DISTANCE_BITS)?;
                if distance > out.len() - begin {
                    return wrong();
                }
                room(out, length, most)?;
                let mut left = length;
                while left > 0 {
                    // What was just copied is copied again where the two overlap.
                    let (from, part) = (out.len() - distance, left.min(distance));
                    out.extend_from_within(from..from + part);
                    left -= part;
                }
            }
        }
    }
}

/// What a symbol and the bits after it come to.
fn longer(bits: &mut Bits<'_>, symbol: usize, least: &[u16], more: &[u32]) -> Read<usize> {
    match (least.get(symbol), more.get(symbol)) {
        (Some(least), Some(more)) => Ok(usize::from(*least) + bits.take(*more)?),
        _ => wrong(),
    }
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut value, mut bit) = (i as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
};

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC[((crc ^ u32::from(*byte)) & 0xFF) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "to be or not to be, that is the question";
    /// `gzip.compress(…, level, mtime=0)` of Python: the text stored, in the fixed codes, and the squares in codes of their own.
    const STORED: &str = "1f8b0800000000000403012800d7ff746f206265206f72206e6f7420746f2062652c207468617420697320746865207175657374696f6e \
        454ae21c28000000";
    const FIXED: &str = "1f8b08000000000002032bc957484a55c82f52c8cb2f5128017174144a32124b14328b8174aa4261696a7149667e1e00454ae21c280000 \
        00";
    const SQUARES: &str = "1f8b0800000000000203158ec101c0300802576104516b74ffc50a2f1205bc00d13870901f6ad087692cc10830a5dddaca71b2c8939f74 \
        0f952dbfd2f2754bb7f1e5e17b83916fa44fffa7f96a7ff2ddb85741861a4855d19d4c95b37ca57deef3dd31c098e48988db6610618629 \
        68e28c435634b283225322c7afe7d97a7bf29513a57e438bbcd457bdfc0140dcce24fd000000";
    /// A thousand times `a`.
    const RUN: &str = "1f8b08000000000002034b4c1c05a360140c77000003da389ae8030000";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.bytes().filter_map(|digit| char::from(digit).to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect()
    }

    fn text(packed: &[u8], most: usize) -> Read<String> {
        gunzip(packed, most).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn blocks_of_all_kinds() {
        let squares = (0..60).map(|i| (i * i).to_string()).collect::<Vec<_>>().join(" ");
        for (packed, expected) in
            [(STORED, TEXT), (FIXED, TEXT), (SQUARES, squares.as_str()), (RUN, "a".repeat(1000).as_str())]
        {
            let packed = hex(packed);
            assert_eq!(text(&packed, expected.len()).expect("a gzip file"), expected);
            assert!(text(&packed, expected.len() - 1).is_err());
            for end in 0..packed.len() {
                assert!(end == 0 || text(&packed[..end], 2000).is_err(), "{end} bytes of {}", packed.len());
            }
        }
        let two = [hex(STORED), hex(FIXED)].concat();
        assert_eq!(text(&two, 80).expect("two members"), TEXT.repeat(2));
        // With a name, a comment, more of its own and a sum of the head.
        let mut named = hex(FIXED);
        named[3] = 2 | 4 | 8 | 16;
        named.splice(10..10, *b"\x03\0abcname\0comment\0xx");
        assert_eq!(text(&named, 40).expect("a gzip file"), TEXT);
    }

    /// Any change of a byte is found, or changes nothing that is read (the head, or bits behind the last code); and it never unpacks to more than it may.
    #[test]
    fn damage_is_found() {
        let packed = hex(SQUARES);
        let whole = gunzip(&packed, 300).expect("a gzip file");
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut packed = packed.clone();
                packed[at] ^= 1 << bit;
                match gunzip(&packed, 300) {
                    Ok(bytes) => assert!(
                        ((3..10).contains(&at) || at == packed.len() - 9) && bytes == whole,
                        "byte {at}, bit {bit}"
                    ),
                    Err(fault) => assert!(matches!(fault, super::super::Fault::Damaged(_))),
                }
            }
        }
    }
}
