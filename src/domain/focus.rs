//! Working memory: the few items that a session currently needs. Its capacity is limited; evicted items go to the
//! archive with the reason.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Items above this importance remain as long as another item can be evicted.
pub const PROTECTED_IMPORTANCE: f64 = 0.8;
/// Default capacity.
pub const DEFAULT_CAPACITY: usize = 10;

/// An item of the working memory.
#[derive(Debug, Clone, PartialEq)]
pub struct FocusItem {
    /// ID, unchanged in the archive.
    pub id: Uuid,
    /// Storage order.
    pub seq: i64,
    pub content: String,
    /// From 0 to 1.
    pub importance: f64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Time of the last use.
    pub touched_at: DateTime<Utc>,
    /// The memory with the same text: the item became this memory, or repeats it. A purge of the memory removes
    /// the item.
    pub memory: Option<Uuid>,
}

/// An archived item.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedItem {
    /// The item as it was.
    pub item: FocusItem,
    /// When it was archived.
    pub archived_at: DateTime<Utc>,
    pub reason: String,
}

/// The reason for an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// The item was the least recently touched of those that are not protected.
    LeastRecentlyTouched,
    /// All items are protected, and this was the oldest.
    AllProtected,
}

/// The reason for archiving an item of any session because the project reached its quota.
pub const PROJECT_FULL: &str = "evicted: the project has reached its limit of items";

impl Eviction {
    /// Returns the reason for the archive.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastRecentlyTouched => "evicted: least recently touched",
            Self::AllProtected => "evicted: oldest, as all were above importance 0.8",
        }
    }
}

/// Returns the item to evict next.
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

/// Removes items from `items` until one more fits, and returns them.
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
