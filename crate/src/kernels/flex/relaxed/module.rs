//! The bytes of a WebAssembly module with one function, which multiplies packed operands: see [`super`] for why it is made
//! while the program runs. It has no data and no stack of its own; it imports the memory and goes where its argument points
//! to. The numbers of instructions are those of the core specification 3.0, section 5.4.

/// Rows of the result that are summed at once. With [`COLUMNS`] these are eight sums, which with their operands stay in the
/// sixteen registers that x86-64 has; of twelve shapes that were tried on V8 none was clearly faster.
pub const ROWS: usize = 4;

/// Columns of the result that are summed at once: two registers.
pub const COLUMNS: usize = 8;

/// What the module imports.
pub const MEMORY: [&str; 2] = ["paddock", "memory"];

/// The function, of the address of a [`Block`].
pub const FUNCTION: &str = "multiply";

/// The argument, of 32 bits each in a tab: where the packed rows, the packed columns and the first number of the result are;
/// bytes from one row of the result to the next; panels of rows and of columns; bytes of a panel of columns; whether to add.
///
/// A panel is [`ROWS`] rows or [`COLUMNS`] columns, step after step of their sums. None of the counts may be 0.
pub type Block = [usize; 8];

/// Places in a [`Block`].
pub const ARGUMENT: Argument =
    Argument { rows: 0, columns: 1, out: 2, stride: 3, row_panels: 4, column_panels: 5, panel: 6, add: 7 };

/// See [`ARGUMENT`].
pub struct Argument {
    pub rows: usize,
    pub columns: usize,
    pub out: usize,
    pub stride: usize,
    pub row_panels: usize,
    pub column_panels: usize,
    pub panel: usize,
    pub add: usize,
}

/// Numbers in a register, and bytes of it and of a number.
const LANES: usize = 4;
const REGISTER: usize = 16;
const NUMBER: usize = 4;

/// Registers of a row of sums.
const ACROSS: usize = COLUMNS / LANES;

// Locals: the argument, then integers, then registers.
const BLOCK: usize = 0;
const A: usize = 1;
const B: usize = 2;
const OUT: usize = 3;
const DOWN: usize = 4;
const RIGHT: usize = 5;
const END: usize = 6;
const PANEL: usize = 7;
const COLUMN: usize = 8;
const ROW: usize = 9;
const SUMS: usize = 10;
const B_NOW: usize = SUMS + ROWS * ACROSS;
const A_NOW: usize = B_NOW + ACROSS;
const LOCALS: usize = A_NOW + 1;

const I32: u8 = 0x7f;
const V128: u8 = 0x7b;

// Instructions that begin with the byte of vectors.
const V128_LOAD: usize = 0;
const V128_LOAD32_SPLAT: usize = 9;
const V128_STORE: usize = 11;
const V128_CONST: usize = 12;
const F32X4_ADD: usize = 0xe4;
const F32X4_MUL: usize = 0xe6;
const F32X4_RELAXED_MADD: usize = 0x105;

/// The module. `fused`: with multiply-add in one instruction, which a browser without relaxed SIMD refuses.
pub fn module(fused: bool) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // Types: (i32) → nothing. Imports: a memory of one page or more. One function of type 0, which is exported.
    module.extend(section(1, &list(&[[vec![0x60], list(&[vec![I32]]), list(&[])].concat()])));
    module.extend(section(2, &list(&[[name(MEMORY[0]), name(MEMORY[1]), vec![2, 0, 1]].concat()])));
    module.extend(section(3, &list(&[vec![0]])));
    module.extend(section(7, &list(&[[name(FUNCTION), vec![0, 0]].concat()])));
    let locals = list(&[[leb(SUMS - 1), vec![I32]].concat(), [leb(LOCALS - SUMS), vec![V128]].concat()]);
    module.extend(section(10, &list(&[sized(&[locals, code(fused)].concat())])));
    module
}

/// For each panel of columns, for each panel of rows: their sums.
fn code(fused: bool) -> Vec<u8> {
    let mut code = Code::default();
    code.argument(ARGUMENT.columns).set(B).argument(ARGUMENT.out).set(COLUMN);
    code.argument(ARGUMENT.column_panels).set(RIGHT);
    code.begin();
    {
        code.argument(ARGUMENT.rows).set(A).get(COLUMN).set(OUT).argument(ARGUMENT.row_panels).set(DOWN);
        code.get(B).set(PANEL).get(B).argument(ARGUMENT.panel).add().set(END);
        code.begin();
        {
            code.get(PANEL).set(B);
            for sum in 0..ROWS * ACROSS {
                code.zero().set(SUMS + sum);
            }
            code.begin();
            code.step(fused);
            code.get(A).constant(ROWS * NUMBER).add().set(A);
            code.get(B).constant(COLUMNS * NUMBER).add().tee(B).get(END).not_equal().repeat_if();
            code.end();
            code.store();
            code.get(DOWN).constant(1).subtract().tee(DOWN).repeat_if();
        }
        code.end();
        code.get(COLUMN).constant(COLUMNS * NUMBER).add().set(COLUMN);
        code.get(RIGHT).constant(1).subtract().tee(RIGHT).repeat_if();
    }
    code.end();
    code.end();
    code.0
}

/// Instructions, one after the other.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    /// One step of all sums: each of the rows' numbers times the columns'.
    fn step(&mut self, fused: bool) {
        for across in 0..ACROSS {
            self.get(B).memory(V128_LOAD, 4, across * REGISTER).set(B_NOW + across);
        }
        for row in 0..ROWS {
            self.get(A).memory(V128_LOAD32_SPLAT, 2, row * NUMBER).set(A_NOW);
            for across in 0..ACROSS {
                let sum = SUMS + row * ACROSS + across;
                self.get(A_NOW).get(B_NOW + across);
                match fused {
                    true => self.get(sum).vector(F32X4_RELAXED_MADD),
                    false => self.vector(F32X4_MUL).get(sum).vector(F32X4_ADD),
                };
                self.set(sum);
            }
        }
    }

    /// Adds what the result has to the sums, where the argument says so, and puts them there. `OUT` goes on to the next rows.
    fn store(&mut self) {
        self.argument(ARGUMENT.add).begin_if().get(OUT).set(ROW);
        for row in 0..ROWS {
            for across in 0..ACROSS {
                let sum = SUMS + row * ACROSS + across;
                self.get(sum).get(ROW).memory(V128_LOAD, 2, across * REGISTER).vector(F32X4_ADD).set(sum);
            }
            self.get(ROW).argument(ARGUMENT.stride).add().set(ROW);
        }
        self.end();
        for row in 0..ROWS {
            for across in 0..ACROSS {
                self.get(OUT).get(SUMS + row * ACROSS + across).memory(V128_STORE, 2, across * REGISTER);
            }
            self.get(OUT).argument(ARGUMENT.stride).add().set(OUT);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(&mut self, number: usize) -> &mut Self {
        self.put(&leb(number))
    }

    fn get(&mut self, local: usize) -> &mut Self {
        self.put(&[0x20]).number(local)
    }

    fn set(&mut self, local: usize) -> &mut Self {
        self.put(&[0x21]).number(local)
    }

    /// Sets a local and goes on with its value.
    fn tee(&mut self, local: usize) -> &mut Self {
        self.put(&[0x22]).number(local)
    }

    fn constant(&mut self, number: usize) -> &mut Self {
        self.put(&[0x41]).put(&signed(number))
    }

    fn argument(&mut self, at: usize) -> &mut Self {
        self.get(BLOCK).put(&[0x28, 2]).number(at * size_of::<u32>())
    }

    fn add(&mut self) -> &mut Self {
        self.put(&[0x6a])
    }

    fn subtract(&mut self) -> &mut Self {
        self.put(&[0x6b])
    }

    fn not_equal(&mut self) -> &mut Self {
        self.put(&[0x47])
    }

    fn begin(&mut self) -> &mut Self {
        self.put(&[0x03, 0x40])
    }

    fn begin_if(&mut self) -> &mut Self {
        self.put(&[0x04, 0x40])
    }

    /// Back to the begin of the innermost loop.
    fn repeat_if(&mut self) -> &mut Self {
        self.put(&[0x0d, 0])
    }

    fn end(&mut self) -> &mut Self {
        self.put(&[0x0b])
    }

    fn vector(&mut self, instruction: usize) -> &mut Self {
        self.put(&[0xfd]).number(instruction)
    }

    /// An instruction that reads or writes; `align` is the power of two that addresses are likely multiples of.
    fn memory(&mut self, instruction: usize, align: u8, offset: usize) -> &mut Self {
        self.vector(instruction).put(&[align]).number(offset)
    }

    fn zero(&mut self) -> &mut Self {
        self.vector(V128_CONST).put(&[0; REGISTER])
    }
}

/// A number in LEB128.
fn leb(number: usize) -> Vec<u8> {
    septets(number, 0x7f)
}

/// The same for where numbers have a sign, in the highest bit.
fn signed(number: usize) -> Vec<u8> {
    septets(number, 0x3f)
}

/// Seven bits a byte, the lowest first; the last byte holds at most `last`.
fn septets(mut number: usize, last: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > last {
        bytes.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn sized(content: &[u8]) -> Vec<u8> {
    [leb(content.len()), content.to_vec()].concat()
}

fn name(text: &str) -> Vec<u8> {
    sized(text.as_bytes())
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], sized(content)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a number in LEB128 as the specification says, and where it ends.
    fn read(bytes: &[u8], sign: bool) -> (i64, usize) {
        let (mut value, mut at) = (0i64, 0);
        loop {
            let byte = bytes[at];
            value |= i64::from(byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                let negative = sign && byte & 0x40 != 0;
                return (if negative { value - (1i64 << (7 * at)) } else { value }, at);
            }
        }
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in (0..300).chain([8191, 8192, 16_383, 16_384, 0x105, 1 << 20, (1 << 31) - 1]) {
            for (bytes, sign) in [(leb(number), false), (signed(number), true)] {
                assert_eq!(read(&bytes, sign), (number as i64, bytes.len()), "{number} {sign}");
            }
        }
        assert_eq!(leb(F32X4_RELAXED_MADD), [0x85, 0x02]);
        // 64 has the bit that would be the sign.
        assert_eq!((signed(63), signed(64)), (vec![0x3f], vec![0xc0, 0x00]));
    }

    #[test]
    fn the_sections_are_the_whole_module() {
        for fused in [false, true] {
            let module = module(fused);
            assert_eq!(module[..8], *b"\0asm\x01\0\0\0");
            let (mut at, mut found) = (8, Vec::new());
            while at < module.len() {
                let (size, length) = read(&module[at + 1..], false);
                let from = at + 1 + length;
                found.push((module[at], &module[from..from + size as usize]));
                at = from + size as usize;
            }
            assert_eq!(at, module.len());
            let [types, imports, functions, exports, code] = found[..] else { panic!("{} sections", found.len()) };
            assert_eq!(types, (1, [1, 0x60, 1, I32, 0].as_slice()));
            assert_eq!(imports, (2, b"\x01\x07paddock\x06memory\x02\0\x01".as_slice()));
            assert_eq!(functions, (3, [1, 0].as_slice()));
            assert_eq!(exports, (7, b"\x01\x08multiply\0\0".as_slice()));
            // One body, as long as it says, that ends.
            assert_eq!((code.0, code.1[0]), (10, 1));
            let (size, length) = read(&code.1[1..], false);
            assert_eq!(size as usize, code.1.len() - 1 - length);
            assert_eq!(code.1.last(), Some(&0x0b));
            let madd = [0xfdu8, 0x85, 0x02];
            let count = code.1.windows(3).filter(|bytes| *bytes == madd).count();
            assert_eq!(count, if fused { ROWS * ACROSS } else { 0 });
        }
    }

    /// Beside them stands tests/browser/product.test.mjs, which runs these very files. `UPDATE=1` writes them.
    #[test]
    fn the_modules_are_the_ones_that_were_run() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/product");
        for (fused, name) in [(true, "fused.wasm"), (false, "plain.wasm")] {
            let (path, made) = (format!("{folder}/{name}"), module(fused));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &made).expect(&path);
            }
            let there = std::fs::read(&path).expect(&path);
            assert!(there == made, "{name} is not what is made: {} bytes, {} made", there.len(), made.len());
        }
    }
}
