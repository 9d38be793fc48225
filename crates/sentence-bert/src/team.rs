//! Worker threads for the model, and the way in which they share one text.
//!
//! Each thread is a separate pool, so that the matrix products of `rten` run on it alone. Threads that share a text
//! synchronize twice per layer, every few hundred microseconds. Waking a thread takes as long as its share, so waiting
//! threads spin.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Spins before a thread yields its core.
const SPINS: u32 = 1_000;
/// Value of `next` after the last turn.
const END: u64 = u64::MAX;

/// Threads, each of which works for one caller at a time.
pub(crate) struct Team {
    pub(crate) size: usize,
    free: Mutex<Vec<Arc<ThreadPool>>>,
    permits: Arc<Semaphore>,
}

/// Threads of a team, returned when this is dropped.
pub(crate) struct Members {
    team: Arc<Team>,
    pools: Vec<Arc<ThreadPool>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Team {
    pub(crate) fn new(name: &'static str, size: usize) -> io::Result<Arc<Self>> {
        let pool = |number: usize| {
            let pool = ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("{name}-{number}"));
            // The caller notices the missing answer. Without a handler the process would end.
            pool.panic_handler(|_| ())
                .build()
                .map(Arc::new)
                .map_err(io::Error::other)
        };
        let free = (0..size).map(pool).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self {
            size,
            free: Mutex::new(free),
            permits: Arc::new(Semaphore::new(size)),
        }))
    }

    /// Waits for one free thread and takes all free ones.
    pub(crate) async fn take_members(self: &Arc<Self>) -> Result<Members, AcquireError> {
        let first = Arc::clone(&self.permits).acquire_owned().await?;
        Ok(self.complete_members(vec![first], usize::MAX))
    }

    /// Takes free threads, at most `most`. Returns `None` if there is none.
    pub(crate) fn try_take_members(self: &Arc<Self>, most: usize) -> Option<Members> {
        let first = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.complete_members(vec![first], most))
    }

    fn complete_members(
        self: &Arc<Self>,
        mut permits: Vec<OwnedSemaphorePermit>,
        most: usize,
    ) -> Members {
        while permits.len() < most
            && let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
        {
            permits.push(permit);
        }
        let mut free = lock_mutex(&self.free);
        let others = free.len().saturating_sub(permits.len());
        let pools = free.split_off(others);
        Members {
            team: Arc::clone(self),
            pools,
            _permits: permits,
        }
    }
}

impl Members {
    pub(crate) fn pools(&self) -> &[Arc<ThreadPool>] {
        &self.pools
    }

    /// Runs `work` on one thread, with the others as helpers.
    pub(crate) fn spawn_work(self, work: impl FnOnce(&[Arc<ThreadPool>]) + Send + 'static) {
        if let Some(first) = self.pools.first().map(Arc::clone) {
            first.spawn(move || work(&self.pools[1..]));
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        lock_mutex(&self.team.free).append(&mut self.pools);
    }
}

/// Runs `help` on each of `helpers` and `lead` on this thread. Returns when all have finished.
pub(crate) fn run_beside<R>(
    helpers: &[Arc<ThreadPool>],
    help: &(dyn Fn() + Sync),
    lead: &mut dyn FnMut() -> R,
) -> R {
    let Some((helper, others)) = helpers.split_first() else {
        return lead();
    };
    helper.in_place_scope(|scope| {
        scope.spawn(|_| help());
        run_beside(others, help, lead)
    })
}

/// A share of a turn. Its work adds the result for `from` to `to`.
pub(crate) struct Share<'a> {
    pub(crate) turn: usize,
    pub(crate) number: usize,
    pub(crate) from: &'a [f32],
    pub(crate) to: &'a mut [f32],
}

type Work<'a> = &'a (dyn Fn(Share<'_>) -> io::Result<()> + Sync);

/// Work in turns, each of which has some shares that free threads take one by one.
///
/// Each share has its own sum. The sums are added in order, so that the result does not depend on the threads.
pub(crate) struct Turns<'a> {
    work: Work<'a>,
    from: RwLock<Vec<f32>>,
    /// The turn, and the next share in the lower half.
    next: AtomicU64,
    finished: AtomicUsize,
    /// Sums of all shares but the first, which belongs to the leader.
    sums: Vec<Mutex<Sum>>,
}

struct Sum {
    numbers: Vec<f32>,
    outcome: io::Result<()>,
}

impl<'a> Turns<'a> {
    pub(crate) fn new(shares: usize, work: Work<'a>) -> Self {
        let sum = |_| {
            Mutex::new(Sum {
                numbers: Vec::new(),
                outcome: Ok(()),
            })
        };
        let sums: Vec<_> = (1..shares).map(sum).collect();
        let (from, next) = (RwLock::default(), AtomicU64::new(u64::from(u32::MAX)));
        Self {
            work,
            from,
            next,
            finished: AtomicUsize::new(0),
            sums,
        }
    }

    /// Takes shares until the last turn has ended.
    pub(crate) fn take_shares(&self) {
        let mut spins = 0;
        while self.next.load(Ordering::Acquire) != END {
            match self.claim_share() {
                Some((turn, number)) => {
                    self.work_on(turn, number);
                    spins = 0;
                }
                None => spin_or_yield(&mut spins),
            }
        }
    }

    /// Runs one turn: adds the results of all shares for `from` to `to`.
    pub(crate) fn run_turn(
        &self,
        turn: usize,
        from: &mut Vec<f32>,
        to: &mut [f32],
    ) -> io::Result<()> {
        if self.sums.is_empty() {
            return (self.work)(Share {
                turn,
                number: 0,
                from,
                to,
            });
        }
        self.swap_input(from);
        self.finished.store(0, Ordering::Release);
        self.next.store((turn as u64) << 32 | 1, Ordering::Release);
        let mine = {
            let from = self.from.read().unwrap_or_else(PoisonError::into_inner);
            (self.work)(Share {
                turn,
                number: 0,
                from: &from,
                to,
            })
        };
        while let Some((turn, number)) = self.claim_share() {
            self.work_on(turn, number);
        }
        let mut spins = 0;
        while self.finished.load(Ordering::Acquire) < self.sums.len() {
            spin_or_yield(&mut spins);
        }
        self.swap_input(from);
        mine?;
        for sum in &self.sums {
            let mut sum = lock_mutex(sum);
            std::mem::replace(&mut sum.outcome, Ok(()))?;
            to.iter_mut()
                .zip(&sum.numbers)
                .for_each(|(to, more)| *to += more);
        }
        Ok(())
    }

    /// Ends the work of the helpers when the returned value is dropped, even after an error.
    pub(crate) fn end_on_drop(&self) -> impl Drop {
        struct End<'a>(&'a AtomicU64);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(END, Ordering::Release);
            }
        }
        End(&self.next)
    }

    fn swap_input(&self, from: &mut Vec<f32>) {
        std::mem::swap(
            &mut *self.from.write().unwrap_or_else(PoisonError::into_inner),
            from,
        );
    }

    fn claim_share(&self) -> Option<(usize, usize)> {
        let number = |next: u64| (next & u64::from(u32::MAX)) as usize;
        let more = |next: u64| (next != END && number(next) <= self.sums.len()).then(|| next + 1);
        let claimed = self
            .next
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(((claimed >> 32) as usize, number(claimed)))
    }

    fn work_on(&self, turn: usize, number: usize) {
        struct Finished<'a>(&'a AtomicUsize);
        impl Drop for Finished<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
        }
        let _finished = Finished(&self.finished);
        let Some(sum) = self.sums.get(number - 1) else {
            return;
        };
        let mut sum = lock_mutex(sum);
        let from = self.from.read().unwrap_or_else(PoisonError::into_inner);
        let Sum { numbers, outcome } = &mut *sum;
        numbers.clear();
        numbers.resize(from.len(), 0.0);
        // Kept if the work panics.
        *outcome = Err(io::Error::other("a share of a text failed"));
        *outcome = (self.work)(Share {
            turn,
            number,
            from: &from,
            to: numbers,
        });
    }
}

fn spin_or_yield(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop()
    } else {
        std::thread::yield_now()
    }
}

pub(crate) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
