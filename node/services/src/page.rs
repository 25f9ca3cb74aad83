//! Pages of a list, and reading lists that may be long.

use std::ops::ControlFlow;

use proto::sdkws::RequestPagination;
use store::key::Text;
use store::record::Present;
use store::{Direction, Table, View};

use crate::Services;
use crate::error::{Result, ServiceError};

/// Most rows of one page; a greater page is cut there.
const MAX_ROWS: usize = 10_000;

/// Rows a long reading looks at in one step.
pub(crate) const STEP_ROWS: usize = 1_000;

/// A table that keeps IDs in the order of a time in milliseconds.
pub(crate) type Order = Table<(i64, Text), Present>;

/// One page of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Rows before it.
    offset: usize,
    /// Rows of it.
    rows: usize,
}

impl Page {
    /// The page a request asks for; pages are numbered from 1.
    pub(crate) fn required(pagination: Option<&RequestPagination>) -> Result<Self> {
        match pagination {
            None => Err(ServiceError::args("pagination is empty")),
            Some(pagination) if pagination.page_number < 1 => {
                Err(ServiceError::args("pageNumber is invalid"))
            }
            Some(_) => Ok(Self::or_empty(pagination)),
        }
    }

    /// The page a request asks for, without rows if it asks for none.
    pub(crate) fn or_empty(pagination: Option<&RequestPagination>) -> Self {
        let (number, show) = pagination.map_or((0, 0), |p| (p.page_number, p.show_number));
        match (usize::try_from(number), usize::try_from(show)) {
            (Ok(number), Ok(show)) if number >= 1 => {
                Self { offset: (number - 1).saturating_mul(show), rows: show.min(MAX_ROWS) }
            }
            _ => Self { offset: 0, rows: 0 },
        }
    }

    /// Whether the page has no rows.
    pub(crate) fn is_empty(self) -> bool {
        self.rows == 0
    }

    /// Whether the row at `index` is on the page.
    pub(crate) fn contains(self, index: usize) -> bool {
        index >= self.offset && index - self.offset < self.rows
    }

    /// Whether no row from `index` on is on the page.
    pub(crate) fn ends_before(self, index: usize) -> bool {
        index >= self.end()
    }

    /// Where in the list it ends.
    pub(crate) fn end(self) -> usize {
        self.offset.saturating_add(self.rows)
    }

    /// All up to its end.
    pub(crate) fn with_all_before(self) -> Self {
        Self { offset: 0, rows: self.end() }
    }

    /// The rows of a whole list that are on the page.
    pub(crate) fn of<T>(self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.offset).take(self.rows).collect()
    }
}

impl Services {
    /// Runs a long reading step by step until `step` says that nothing is left.
    ///
    /// Every step has a view of its own, because what commits replace under a view stays in memory;
    /// between the steps other tasks run. Of those that take more than one step only a few run at
    /// once, so that they cannot starve the rest.
    pub(crate) async fn in_steps(
        &self,
        mut step: impl FnMut(&View<'_>) -> Result<bool> + Send,
    ) -> Result<()> {
        let mut permit = None;
        loop {
            let more = {
                let view = self.store().view();
                step(&view)?
            };
            if !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
            if permit.is_none() {
                permit = self.inner.long_reads.acquire().await.ok();
            }
        }
    }

    /// Shows `visit` the times and IDs of an order from `start` on until it breaks off.
    pub(crate) async fn each_in_order(
        &self,
        order: &'static Order,
        start: i64,
        mut visit: impl FnMut(&View<'_>, i64, String) -> Result<ControlFlow<()>> + Send,
    ) -> Result<()> {
        let mut next = (start, String::new());
        self.in_steps(move |view| {
            let from = next.clone();
            let first = (from.0, from.1.as_str());
            let mut seen = 0;
            for row in order.range(view, first, (), Direction::Ascending).take(STEP_ROWS) {
                let ((time, id), _) = row?;
                seen += 1;
                // The least text after `id`.
                next = (time, format!("{id}\0"));
                if visit(view, time, id)?.is_break() {
                    return Ok(false);
                }
            }
            Ok(seen == STEP_ROWS)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page_number: i32, show_number: i32) -> RequestPagination {
        RequestPagination { page_number, show_number }
    }

    #[test]
    fn pages_are_numbered_from_one() {
        let list = || (0..5).collect::<Vec<i32>>();
        let of = |p| Page::required(Some(&p)).expect("a page").of(list());
        assert_eq!(of(page(1, 2)), [0, 1]);
        assert_eq!(of(page(3, 2)), [4]);
        assert!(of(page(4, 2)).is_empty());
        assert!(of(page(i32::MAX, i32::MAX)).is_empty());
        assert!(of(page(1, 0)).is_empty());
        assert!(of(page(1, -1)).is_empty());
        assert!(Page::required(None).is_err());
        assert!(Page::required(Some(&page(0, 2))).is_err());
    }

    #[test]
    fn rows_are_found_by_index() {
        let second = Page::required(Some(&page(2, 2))).expect("a page");
        let on_it: Vec<usize> = (0..9).filter(|index| second.contains(*index)).collect();
        assert_eq!(on_it, [2, 3]);
        assert!(!second.ends_before(3));
        assert!(second.ends_before(4));
        assert!(Page::or_empty(None).is_empty());
        assert!(Page::or_empty(Some(&page(0, 5))).is_empty());
    }
}
