//! What was seen at a network's sites on the growth batch: kept in memory, or seen again, part by part, where it is too
//! much to keep.

use crate::error::Error;
use crate::operator::work::Work;
use crate::site::probe::Evidence;
use crate::sums::SharedSums;

/// Evidence that a growth event can look at as often as it likes.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) source: Source<'a>,
    /// What sums over examples go through.
    pub(crate) sums: &'a SharedSums,
    /// What counts the operations.
    pub(crate) work: &'a Work,
}

/// Where evidence comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// In memory, of all parts.
    Kept(&'a Evidence),
    /// In memory for one part at a time, by a further pass over the growth batch each time.
    Again(&'a dyn Again),
}

/// Takes the passes over the growth batch again.
pub(crate) trait Again {
    /// One example of what each site shows: enough to check shapes with.
    fn sample(&self) -> &Evidence;
    /// Shows the evidence of each part, whose loss counts with the part's share.
    fn each_part(&self, see: &mut dyn FnMut(&Evidence) -> Result<(), Error>) -> Result<(), Error>;
}

impl<'a> Seen<'a> {
    /// Evidence of every site, which may be of one example only.
    pub(crate) fn sample(self) -> &'a Evidence {
        match self.source {
            Source::Kept(evidence) => evidence,
            Source::Again(again) => again.sample(),
        }
    }
}
