//! Runs as TensorBoard reads them: event files with losses, scores, rates, widths and growth events.
//!
//! An event file is a row of records (length, bytes, and a checksum of each), each a protocol buffer `Event`. The few
//! messages that are needed are written here by hand: no crate that is kept up writes them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use gradmax::event::Receipt;
use gradmax::site::{Growable, SiteWidth};
use gradmax::training::{Observer, ObserverError, Progress, Row, Run, Split, Undone};

/// Writes a run's measurements and growth events for TensorBoard.
pub struct TensorBoard {
    file: File,
    path: PathBuf,
}

impl TensorBoard {
    /// Starts an event file in a folder, for a run that is at this point. A session-start record tells TensorBoard to
    /// forget what files before it have of later steps, so that no step of a resumed run shows twice.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn new(folder: &Path, progress: &Progress) -> Result<Self> {
        let cannot = || format!("cannot write TensorBoard's events in {}", folder.display());
        fs::create_dir_all(folder).with_context(cannot)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads files in the order of their names.
        let path = folder.join(format!("events.out.tfevents.{:010}.{:09}.gradmax", now.as_secs(), now.subsec_nanos()));
        let mut board = Self { file: File::create(&path).with_context(cannot)?, path };
        let start = [0x08, 0x01];
        board.event(0, &bytes(3, b"brain.Event:2")).with_context(cannot)?;
        board.event(progress.step, &bytes(7, &start)).with_context(cannot)?;
        board.widths(progress.step, &progress.sites).with_context(cannot)?;
        Ok(board)
    }

    fn event(&mut self, step: usize, what: &[u8]) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = [&[0x09][..], &now.to_le_bytes(), &number(2, step as u64), what].concat();
        self.file.write_all(&record(&event))
    }

    /// Numbers with their names, in one event.
    fn scalars(&mut self, step: usize, values: &[(String, f64)]) -> io::Result<()> {
        let value = |(tag, value): &(String, f64)| {
            bytes(1, &[&bytes(1, tag.as_bytes())[..], &[0x15], &(*value as f32).to_le_bytes()].concat())
        };
        let summary = values.iter().flat_map(value).collect::<Vec<_>>();
        self.event(step, &bytes(5, &summary))
    }

    fn widths(&mut self, step: usize, sites: &[SiteWidth]) -> io::Result<()> {
        let widths = sites.iter().map(|site| (format!("width/{}", site.site), site.width as f64));
        self.scalars(step, &widths.collect::<Vec<_>>())
    }

    /// Text, as the plugin of that name shows it: a tensor of one string.
    fn text(&mut self, step: usize, tag: &str, text: &str) -> io::Result<()> {
        let plugin = bytes(1, &bytes(1, b"text"));
        let shape = bytes(2, &number(1, 1));
        let tensor = [&number(1, 7)[..], &bytes(2, &shape), &bytes(8, text.as_bytes())].concat();
        let value = [&bytes(1, tag.as_bytes())[..], &bytes(9, &plugin), &bytes(8, &tensor)].concat();
        self.event(step, &bytes(5, &bytes(1, &value)))
    }

    fn row(&mut self, row: &Row) -> io::Result<()> {
        let split = match row.split {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        };
        let mut values = vec![(format!("loss/{split}"), row.loss)];
        values.extend(row.score.map(|score| (format!("score/{split}"), score)));
        if row.split == Split::Train {
            values.extend(row.gradient_norm.map(|norm| ("training/gradient_norm".into(), norm)));
            values.push(("training/learning_rate".into(), row.learning_rate));
            values.push(("network/parameters".into(), row.parameters as f64));
            values.push(("network/training_flops".into(), row.flops as f64));
        }
        self.scalars(row.step, &values)
    }

    fn growth(&mut self, receipt: &Receipt) -> io::Result<()> {
        let widths = receipt.sites.iter().map(|site| (format!("width/{}", site.site), site.width as f64));
        self.scalars(receipt.step, &widths.collect::<Vec<_>>())?;
        self.text(receipt.step, "growth", &crate::report::growth_sentence(receipt))
    }

    fn narrowing(&mut self, undone: &Undone) -> io::Result<()> {
        let widths = undone.shrinkage.sites.iter().map(|site| (format!("width/{}", site.site), site.after as f64));
        self.scalars(undone.step, &widths.collect::<Vec<_>>())?;
        self.text(undone.step, "undone", &crate::report::undone_sentence(undone))
    }

    fn kept(&self, written: io::Result<()>) -> Result<(), ObserverError> {
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()).into())
    }
}

impl<N: Growable> Observer<N> for TensorBoard {
    fn logged(&mut self, row: &Row) -> Result<(), ObserverError> {
        let written = self.row(row);
        self.kept(written)
    }

    fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
        let written = self.growth(receipt);
        self.kept(written)
    }

    fn undone(&mut self, undone: &Undone) -> Result<(), ObserverError> {
        let written = self.narrowing(undone);
        self.kept(written)
    }

    fn checkpoint(&mut self, _run: &Run<N>) -> Result<(), ObserverError> {
        let written = self.file.sync_data();
        self.kept(written)
    }
}

/// A record: its length and its bytes, each with a checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_checksum(&length).to_le_bytes(), data, &masked_checksum(data).to_le_bytes()].concat()
}

/// The Castagnoli checksum, turned and shifted so that a checksum of data with checksums in it is of use.
fn masked_checksum(data: &[u8]) -> u32 {
    checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, bit by bit: events are short and few.
fn checksum(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }))
    })
}

/// A field of a protocol buffer that holds a whole number.
fn number(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

/// A field of a protocol buffer that holds bytes: text, or another message.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(value.len() as u64), value.to_vec()].concat()
}

/// A number in groups of seven bits, the lowest first, of which all but the last have their eighth bit set.
fn varint(mut value: u64) -> Vec<u8> {
    let mut groups = Vec::new();
    while value > 0x7f {
        groups.push(value as u8 | 0x80);
        value >>= 7;
    }
    groups.push(value as u8);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn messages_are_written_as_protocol_buffers_are() {
        // The encodings that the format's documentation gives: 150 in field 1, and "testing" in field 2.
        assert_eq!(number(1, 150), [0x08, 0x96, 0x01]);
        assert_eq!(bytes(2, b"testing"), [&[0x12, 0x07][..], b"testing"].concat());
        assert_eq!(varint(u64::MAX).len(), 10);
    }
}
