//! The words of times in each language.

pub(super) mod dutch;
pub(super) mod english;
pub(super) mod french;
pub(super) mod german;
pub(super) mod italian;
pub(super) mod portuguese;
pub(super) mod spanish;
