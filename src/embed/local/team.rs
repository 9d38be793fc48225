//! Threads that work for the model, and how they share one text.
//!
//! Each is a pool of one thread: inside of it the matrix products of `rten` run through without looking for others. A
//! text that is shared meets twice a layer, every few hundred microseconds. Waking a thread takes as long as its share,
//! so those that wait in between spin.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Spins before the core is offered to others.
const SPINS: u32 = 1_000;
/// The claims when there is nothing more to come.
const END: u64 = u64::MAX;

/// Threads of which nobody works for two.
pub(super) struct Team {
    free: Mutex<Vec<Arc<ThreadPool>>>,
    permits: Arc<Semaphore>,
}

/// Some of them, given back when this is dropped.
pub(super) struct Members {
    team: Arc<Team>,
    pools: Vec<Arc<ThreadPool>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Team {
    pub(super) fn new(name: &'static str, size: usize) -> io::Result<Arc<Self>> {
        let pool = |number: usize| {
            let pool = ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("{name}-{number}"));
            // Whoever waits for the text hears of it; without a handler the whole process would end.
            pool.panic_handler(|_| ())
                .build()
                .map(Arc::new)
                .map_err(io::Error::other)
        };
        let free = (0..size).map(pool).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self {
            free: Mutex::new(free),
            permits: Arc::new(Semaphore::new(size)),
        }))
    }

    /// One thread as soon as there is one, and all others that are free.
    pub(super) async fn members(self: &Arc<Self>) -> Result<Members, AcquireError> {
        let mut permits = vec![Arc::clone(&self.permits).acquire_owned().await?];
        permits.extend(std::iter::from_fn(|| {
            Arc::clone(&self.permits).try_acquire_owned().ok()
        }));
        let mut free = locked(&self.free);
        let others = free.len().saturating_sub(permits.len());
        let pools = free.split_off(others);
        Ok(Members {
            team: Arc::clone(self),
            pools,
            _permits: permits,
        })
    }
}

impl Members {
    /// Runs on one of them, which has the others to help.
    pub(super) fn spawn(self, work: impl FnOnce(&[Arc<ThreadPool>]) + Send + 'static) {
        if let Some(first) = self.pools.first().map(Arc::clone) {
            first.spawn(move || work(&self.pools[1..]));
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        locked(&self.team.free).append(&mut self.pools);
    }
}

/// Runs `help` on each of `helpers` and `lead` here. Returns when all have.
pub(super) fn beside<R>(
    helpers: &[Arc<ThreadPool>],
    help: &(dyn Fn() + Sync),
    lead: &mut dyn FnMut() -> R,
) -> R {
    let Some((helper, others)) = helpers.split_first() else {
        return lead();
    };
    helper.in_place_scope(|scope| {
        scope.spawn(|_| help());
        beside(others, help, lead)
    })
}

/// A share of a turn, as it is given to whoever takes it: adds to `to` what it makes of `from`.
pub(super) struct Share<'a> {
    pub(super) turn: usize,
    pub(super) number: usize,
    pub(super) from: &'a [f32],
    pub(super) to: &'a mut [f32],
}

type Work<'a> = &'a (dyn Fn(Share<'_>) -> io::Result<()> + Sync);

/// Work that is done in turns, each of some shares, which whoever is free takes one by one.
///
/// Each share has a sum of its own, and these are added in their order: whoever took which, the numbers are the same.
pub(super) struct Turns<'a> {
    work: Work<'a>,
    from: RwLock<Vec<f32>>,
    /// The turn and, in the lower half, the share that is next.
    next: AtomicU64,
    finished: AtomicUsize,
    /// Of all shares but the first, which is the leader's.
    sums: Vec<Mutex<Sum>>,
}

struct Sum {
    numbers: Vec<f32>,
    outcome: io::Result<()>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(shares: usize, work: Work<'a>) -> Self {
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

    /// Takes shares until the end.
    pub(super) fn help(&self) {
        let mut spins = 0;
        while self.next.load(Ordering::Acquire) != END {
            match self.claim() {
                Some((turn, number)) => {
                    self.take(turn, number);
                    spins = 0;
                }
                None => pause(&mut spins),
            }
        }
    }

    /// One turn: adds to `to` what all shares make of `from`.
    pub(super) fn lead(&self, turn: usize, from: &mut Vec<f32>, to: &mut [f32]) -> io::Result<()> {
        if self.sums.is_empty() {
            return (self.work)(Share {
                turn,
                number: 0,
                from,
                to,
            });
        }
        self.exchange(from);
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
        while let Some((turn, number)) = self.claim() {
            self.take(turn, number);
        }
        let mut spins = 0;
        while self.finished.load(Ordering::Acquire) < self.sums.len() {
            pause(&mut spins);
        }
        self.exchange(from);
        mine?;
        for sum in &self.sums {
            let mut sum = locked(sum);
            std::mem::replace(&mut sum.outcome, Ok(()))?;
            to.iter_mut()
                .zip(&sum.numbers)
                .for_each(|(to, more)| *to += more);
        }
        Ok(())
    }

    /// Helpers go home when this is dropped, however it comes to that.
    pub(super) fn until_the_end(&self) -> impl Drop {
        struct End<'a>(&'a AtomicU64);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(END, Ordering::Release);
            }
        }
        End(&self.next)
    }

    fn exchange(&self, from: &mut Vec<f32>) {
        std::mem::swap(
            &mut *self.from.write().unwrap_or_else(PoisonError::into_inner),
            from,
        );
    }

    fn claim(&self) -> Option<(usize, usize)> {
        let number = |next: u64| (next & u64::from(u32::MAX)) as usize;
        let more = |next: u64| (next != END && number(next) <= self.sums.len()).then(|| next + 1);
        let claimed = self
            .next
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(((claimed >> 32) as usize, number(claimed)))
    }

    fn take(&self, turn: usize, number: usize) {
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
        let mut sum = locked(sum);
        let from = self.from.read().unwrap_or_else(PoisonError::into_inner);
        let Sum { numbers, outcome } = &mut *sum;
        numbers.clear();
        numbers.resize(from.len(), 0.0);
        // What stays if the work panics.
        *outcome = Err(io::Error::other("a share of a text was given up"));
        *outcome = (self.work)(Share {
            turn,
            number,
            from: &from,
            to: numbers,
        });
    }
}

fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop()
    } else {
        std::thread::yield_now()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
