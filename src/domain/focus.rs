//! Working memory: the few things that a session has in mind. Its capacity is bounded; items
//! that must make room go to the archive with the reason.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Items above this importance stay as long as there is another one to go.
pub const PROTECTED_IMPORTANCE: f64 = 0.8;
/// Capacity where nothing is set.
pub const DEFAULT_CAPACITY: usize = 10;

/// Something that a session has in mind.
#[derive(Debug, Clone, PartialEq)]
pub struct FocusItem {
    /// Identity, kept in the archive.
    pub id: Uuid,
    /// Storage order.
    pub seq: i64,
    pub content: String,
    /// From 0 to 1.
    pub importance: f64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub touched_at: DateTime<Utc>,
    /// The memory whose text it is: it became that one, or repeats it. A purge of the memory takes the item along.
    pub memory: Option<Uuid>,
}

/// An item that left the working memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedItem {
    /// As it was.
    pub item: FocusItem,
    /// When it left.
    pub archived_at: DateTime<Utc>,
    pub reason: String,
}

/// Why an item had to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// It was the least recently touched of those that are not protected.
    LeastRecentlyTouched,
    /// All are protected: it was the oldest.
    AllProtected,
}

/// Why an item of whatever session left when the project held as much as it may.
pub const PROJECT_FULL: &str = "evicted: the project holds as many items as it may";

impl Eviction {
    /// The reason in the archive.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastRecentlyTouched => "evicted: least recently touched",
            Self::AllProtected => "evicted: oldest, as all were above importance 0.8",
        }
    }
}

/// Which of `items` goes next.
#[must_use]
pub fn victim(items: &[FocusItem]) -> Option<(usize, Eviction)> {
    let free = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.importance <= PROTECTED_IMPORTANCE);
    if let Some((place, _)) = free.min_by_key(|(_, item)| (item.touched_at, item.seq)) {
        return Some((place, Eviction::LeastRecentlyTouched));
    }
    let oldest = items
        .iter()
        .enumerate()
        .min_by_key(|(_, item)| (item.created_at, item.seq));
    oldest.map(|(place, _)| (place, Eviction::AllProtected))
}

/// Takes out of `items` what must go so that one more fits in.
pub fn make_room(items: &mut Vec<FocusItem>, capacity: usize) -> Vec<(FocusItem, Eviction)> {
    let mut gone = Vec::new();
    while items.len() >= capacity.max(1) {
        let Some((place, eviction)) = victim(items) else {
            break;
        };
        gone.push((items.remove(place), eviction));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(seq: i64, importance: f64, created: i64, touched: i64) -> FocusItem {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let (created_at, touched_at) = (at(created), at(touched));
        FocusItem {
            id: Uuid::nil(),
            seq,
            content: String::new(),
            importance,
            created_at,
            touched_at,
            memory: None,
        }
    }

    #[test]
    fn the_least_recently_touched_goes_unless_it_is_protected() {
        let mut items = vec![
            item(1, 0.9, 1, 1),
            item(2, 0.8, 2, 9),
            item(3, 0.1, 3, 8),
            item(4, 0.81, 4, 4),
        ];
        let gone: Vec<(i64, Eviction)> = make_room(&mut items, 1)
            .into_iter()
            .map(|(item, eviction)| (item.seq, eviction))
            .collect();
        let (touched, protected) = (Eviction::LeastRecentlyTouched, Eviction::AllProtected);
        assert_eq!(
            gone,
            [(3, touched), (2, touched), (1, protected), (4, protected)]
        );
        assert!(items.is_empty());
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        let mut items = vec![item(1, 0.5, 1, 1)];
        assert!(make_room(&mut items, 2).is_empty());
        assert_eq!(items.len(), 1);
    }
}
