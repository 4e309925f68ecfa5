//! Arrays in NumPy's files: `.npy`, and members of `.npz` archives.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use zip::ZipArchive;

/// Where an array is: a `.npy` file, or `archive.npz:name`.
pub struct Place<'a> {
    whole: &'a Path,
    file: PathBuf,
    member: Option<String>,
}

impl<'a> Place<'a> {
    pub fn of(whole: &'a Path) -> Self {
        let text = whole.as_os_str().to_string_lossy();
        match text.rsplit_once(".npz:") {
            Some((file, member)) => {
                Self { whole, file: OsString::from(format!("{file}.npz")).into(), member: Some(member.into()) }
            }
            None => Self { whole, file: whole.to_path_buf(), member: None },
        }
    }

    /// The array's name in its archive, if it is in one.
    pub fn member(&self) -> Option<&str> {
        self.member.as_deref()
    }

    /// The shape of the array, which is all that is read of it.
    pub fn shape(&self) -> Result<Vec<usize>> {
        self.header().map(|header| header.shape)
    }

    /// Type and shape of the array.
    pub fn header(&self) -> Result<Header> {
        self.read(|header, _| Ok(header))
    }

    /// Shows the array row by row, a row being everything behind an index of the first axis; numbers that are not finite
    /// are refused.
    pub fn each_row(&self, mut see: impl FnMut(usize, &[f64]) -> Result<()>) -> Result<()> {
        self.read(|header, reader| {
            let length = header.shape[1..].iter().product::<usize>();
            let mut bytes = vec![0; length * header.kind.size];
            let mut row = Vec::with_capacity(length);
            for index in 0..header.shape[0] {
                reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof => anyhow!("is cut short: it ends in row {index} of {}", header.shape[0]),
                    _ => error.into(),
                })?;
                row.clear();
                row.extend(bytes.chunks_exact(header.kind.size).map(|bytes| header.kind.number(bytes)));
                if let Some(place) = row.iter().position(|number| !number.is_finite()) {
                    bail!("row {index}, entry {place}: {} is not a finite number", row[place]);
                }
                see(index, &row)?;
            }
            match reader.read(&mut [0])? {
                0 => Ok(()),
                _ => bail!("goes on behind its {} rows", header.shape[0]),
            }
        })
    }

    fn read<T>(&self, read: impl FnOnce(Header, &mut dyn Read) -> Result<T>) -> Result<T> {
        let about = || self.whole.display().to_string();
        let opened = || Ok::<_, anyhow::Error>(BufReader::new(File::open(&self.file)?));
        let read = |length: u64, reader: &mut dyn Read| {
            let header = Header::read(reader)?;
            // Before memory is asked for: a damaged header can claim any size.
            match header.bytes().is_some_and(|bytes| bytes <= length) {
                true => read(header, reader),
                false => bail!("is cut short: an array of shape {:?} is longer than the file", header.shape),
            }
        };
        let Some(member) = &self.member else {
            let mut file = opened().with_context(about)?;
            let length = file.get_ref().metadata().with_context(about)?.len();
            return read(length, &mut file).with_context(about);
        };
        let mut archive = opened().and_then(|file| Ok(ZipArchive::new(file)?)).with_context(about)?;
        let names = archive.file_names().filter_map(Result::ok);
        let names = names.map(|name| name.trim_end_matches(".npy").to_string()).collect::<Vec<_>>();
        let found = archive.by_name(&format!("{member}.npy"));
        let missing = |error| anyhow!("has no array `{member}` ({error}); it has: {}", names.join(", "));
        let mut found = found.map_err(missing).with_context(about)?;
        read(found.size(), &mut found).with_context(about)
    }
}

/// What an array is.
pub struct Header {
    pub shape: Vec<usize>,
    kind: Kind,
}

/// The type of an array's numbers.
struct Kind {
    code: Code,
    size: usize,
    big_endian: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Code {
    Float,
    Signed,
    Unsigned,
}

/// Bytes of a header at most; NumPy's own have some hundred.
const LONGEST_HEADER: usize = 1 << 16;

impl Header {
    /// Whether the numbers are whole.
    pub fn is_whole(&self) -> bool {
        self.kind.code != Code::Float
    }

    fn bytes(&self) -> Option<u64> {
        let count = self.shape.iter().try_fold(self.kind.size, |count, length| count.checked_mul(*length))?;
        u64::try_from(count).ok()
    }

    /// Reads a header (NEP 1): a magic number, a version, a length, and a Python dictionary.
    fn read(reader: &mut dyn Read) -> Result<Self> {
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(|_| not_npy())?;
        if &start[..6] != b"\x93NUMPY" {
            return Err(not_npy());
        }
        let length = match start[6] {
            1 => u32::from(u16::from_le_bytes(taken(reader)?)),
            2 | 3 => u32::from_le_bytes(taken(reader)?),
            version => bail!("is of version {version} of NumPy's format; 1 to 3 are read"),
        };
        let length = length as usize;
        if length > LONGEST_HEADER {
            bail!("has a header of {length} bytes; it is damaged");
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).context("is cut short in its header")?;
        let text = String::from_utf8(text).context("has a header that is no text")?;
        if value(&text, "fortran_order")?.starts_with("True") {
            bail!("lies in Fortran's order; save numpy.ascontiguousarray(array)");
        }
        let shape = value(&text, "shape")?;
        let inside = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).context("has no shape in its header")?;
        let lengths = inside.0.split(',').map(str::trim).filter(|length| !length.is_empty());
        let shape = lengths.map(|length| length.parse().context("has a shape that is no numbers")).collect::<Result<Vec<_>>>()?;
        if shape.is_empty() {
            bail!("is a single number; an array with a row for each example is needed");
        }
        Ok(Self { shape, kind: Kind::of(value(&text, "descr")?)? })
    }
}

fn not_npy() -> anyhow::Error {
    anyhow!("is no array of NumPy's (.npy, or archive.npz:name)")
}

fn taken<const N: usize>(reader: &mut dyn Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).context("is cut short in its header")?;
    Ok(bytes)
}

/// What stands behind a key of the dictionary.
fn value<'t>(text: &'t str, key: &str) -> Result<&'t str> {
    let (_, rest) = text.split_once(&format!("'{key}'")).with_context(|| format!("has no `{key}` in its header"))?;
    Ok(rest.trim_start().trim_start_matches(':').trim_start())
}

impl Kind {
    /// The type that a description such as `'<f4'` names.
    fn of(description: &str) -> Result<Self> {
        let inside = description.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(inside, _)| inside);
        let name = inside.context("has several numbers an entry; save them as arrays of their own")?;
        let known = || {
            let (order, kind) = name.split_at_checked(1)?;
            let (code, size) = kind.split_at_checked(1)?;
            let code = match code {
                "f" => Code::Float,
                "i" => Code::Signed,
                "u" | "b" => Code::Unsigned,
                _ => return None,
            };
            let size = size.parse().ok()?;
            let sizes: &[usize] = if code == Code::Float { &[2, 4, 8] } else { &[1, 2, 4, 8] };
            sizes.contains(&size).then_some(Self { code, size, big_endian: order == ">" })
        };
        known().with_context(|| format!("has entries of the type `{name}`; numbers are needed (f, i, u, b)"))
    }

    fn number(&self, bytes: &[u8]) -> f64 {
        let mut wide = [0; 8];
        // Little-endian, at the low end.
        wide[..self.size].copy_from_slice(bytes);
        if self.big_endian {
            wide[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(wide);
        let unused = 64 - 8 * self.size as u32;
        match (self.code, self.size) {
            (Code::Float, 2) => half(bits as u16),
            (Code::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Code::Float, _) => f64::from_bits(bits),
            (Code::Signed, _) => ((bits << unused) as i64 >> unused) as f64,
            (Code::Unsigned, _) => bits as f64,
        }
    }
}

/// A number of half precision (IEEE 754 binary16).
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * f64::from(2.0_f32).powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2.0_f64.powi(exponent - 15),
    };
    if sign == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_type_are_read() {
        let number = |description: &str, bytes: &[u8]| Kind::of(description).unwrap().number(bytes);
        assert_eq!(number("'<f4'", &1.5_f32.to_le_bytes()), 1.5);
        assert_eq!(number("'>f8'", &(-2.25_f64).to_be_bytes()), -2.25);
        assert_eq!(number("'<i2'", &(-300_i16).to_le_bytes()), -300.0);
        assert_eq!(number("'>i4'", &(-7_i32).to_be_bytes()), -7.0);
        assert_eq!(number("'|u1'", &[200]), 200.0);
        assert_eq!(number("'|i1'", &[0xff]), -1.0);
        assert_eq!(number("'|b1'", &[1]), 1.0);
        assert_eq!(number("'<i8'", &(-5_i64).to_le_bytes()), -5.0);
        // numpy.float16 of 1/3, -2, the least number above 0, and infinity.
        for (bits, value) in [(0x3555, 0.333_251_953_125), (0xc000, -2.0), (1, 2.0_f64.powi(-24)), (0x7c00, f64::INFINITY)] {
            assert_eq!(number("'<f2'", &u16::to_le_bytes(bits)), value);
        }
        for other in ["'<U5'", "'|O'", "'<c8'", "'<f3'", "[('a', '<f4')]", "''", "'<'", "'é4'"] {
            assert!(Kind::of(other).is_err(), "{other}");
        }
    }
}
