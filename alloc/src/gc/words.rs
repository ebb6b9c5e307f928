//! Finding the words in a piece of memory that may be pointers to objects, at any address.
//!
//! A handle lies at a multiple of eight nearly always, but not always: a generic `repr(packed)`
//! type takes a handle to any address, and no type or trait can forbid it. So every byte of memory
//! begins a *window* of eight bytes that may be a handle.
//!
//! # Algorithm
//!
//! An address of the arena has an upper half of `0x1d3` or a little more, below `0x300`
//! (`arena.rs`). So of a window that holds one, bytes 7 and 6 are 0, byte 5 is 1 or 2, and byte 4
//! is one of few values, each of which stands for 4 GiB. Three or four comparisons of 16 bytes at
//! once tell of 16 windows which can be pointers. For memory without pointers that takes fewer
//! instructions than to look at each aligned word by itself; the few windows that are left are
//! looked at one by one. Most objects are too small for that: of those each word is looked at, and
//! whether a byte 4 of a pointer is in a wrong place, which is rare.
//!
//! # Invariants
//!
//! 1. Nothing outside the piece is read: it may be the last before memory that is not mapped.
//! 2. Every window that holds an address inside the used arena is found, once, in the order of
//!    addresses.
//!
//! # Memory ordering
//!
//! None: the world stands.

use crate::arena::START;
use std::arch::x86_64::*;
use std::ptr;

const WORD: usize = size_of::<usize>();
/// Windows in a block.
const BLOCK: usize = 16;
/// What the windows of a block cover, in bytes.
const COVER: usize = BLOCK + WORD - 1;

/// Which words may be pointers, with the arena as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// Bytes of the arena that are in use.
    used: usize,
    /// Bytes 4 of all addresses in use, if that is one value.
    fourth: Option<u8>,
    /// Whether there are addresses in use with a 2 in byte 5.
    has_two: bool,
}

impl Filter {
    pub(super) fn new(used: usize) -> Self {
        let last = START + used.saturating_sub(1);
        debug_assert!(START >> 40 == 1 && last >> 40 <= 2, "byte 5 is 1 or 2");
        Self {
            used,
            fourth: (START >> 32 == last >> 32).then_some((START >> 32) as u8),
            has_two: last >> 40 == 2,
        }
    }

    /// Whether a word is an address inside the used arena.
    #[inline(always)]
    pub(super) fn accepts(&self, word: usize) -> bool {
        word.wrapping_sub(START) < self.used
    }

    /// Which of the 16 windows from `at` may be pointers, as bits.
    ///
    /// # Safety
    ///
    /// [`COVER`] bytes from `at` can be read, and nobody writes to them.
    #[inline]
    #[target_feature(enable = "sse2")]
    unsafe fn block(&self, at: *const u8) -> u32 {
        // SAFETY: reads bytes `i` to `i + 15` of the 23, for `i` up to 7.
        let byte = |i: usize| unsafe { _mm_loadu_si128(at.wrapping_add(i).cast()) };
        let zero = _mm_setzero_si128();
        let five = byte(5);
        let mut fits = _mm_cmpeq_epi8(five, _mm_set1_epi8(1));
        if self.has_two {
            fits = _mm_or_si128(fits, _mm_cmpeq_epi8(five, _mm_set1_epi8(2)));
        }
        fits = _mm_and_si128(fits, _mm_cmpeq_epi8(byte(6), zero));
        fits = _mm_and_si128(fits, _mm_cmpeq_epi8(byte(7), zero));
        if let Some(fourth) = self.fourth {
            fits = _mm_and_si128(fits, _mm_cmpeq_epi8(byte(4), _mm_set1_epi8(fourth as i8)));
        }
        _mm_movemask_epi8(fits) as u32
    }

    /// Whether no window of the piece can be a pointer but the words themselves, as far as is easily
    /// told: no byte is what byte 4 of a pointer is, but for bytes 4 of words. In handles, and in
    /// most else that objects hold, none is. Most objects are small, and looked at in this way.
    ///
    /// # Safety
    ///
    /// So many words from `at`, a multiple of eight, can be read, and nobody writes to them.
    #[inline(always)]
    pub(super) unsafe fn is_plain(&self, at: *const usize, words: usize) -> bool {
        self.fourth.is_some_and(|fourth| {
            // SAFETY: the caller's promise; SSE2 is part of x86-64.
            unsafe { is_plain(fourth, at, words) }
        })
    }

    /// Which of the 9 windows of two words in a row are pointers, as bits.
    #[inline]
    pub(super) fn pair(&self, words: [usize; 2]) -> u32 {
        let bit = |at: u32| u32::from(self.accepts(window(words, at))) << at;
        let aligned = bit(0) | u32::from(self.accepts(words[1])) << WORD;
        // SAFETY: two words of our own.
        match unsafe { self.is_plain(words.as_ptr(), words.len()) } {
            true => aligned,
            false => (1..WORD as u32).fold(aligned, |bits, at| bits | bit(at)),
        }
    }
}

/// [`Filter::is_plain`].
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "sse2")]
unsafe fn is_plain(fourth: u8, at: *const usize, words: usize) -> bool {
    const OTHERS: i32 = 0xffff & !(1 << 4 | 1 << 12);
    let fourths = _mm_set1_epi8(fourth as i8);
    let mut found = _mm_setzero_si128();
    for i in (1..words).step_by(2) {
        // SAFETY: words `i - 1` and `i` of the piece.
        let two = unsafe { _mm_loadu_si128(at.wrapping_add(i - 1).cast()) };
        found = _mm_or_si128(found, _mm_cmpeq_epi8(two, fourths));
    }
    if words % 2 == 1 {
        // SAFETY: the last word of the piece. Its upper half is zeros, which no byte 4 is.
        let one = unsafe { _mm_loadl_epi64(at.wrapping_add(words - 1).cast()) };
        found = _mm_or_si128(found, _mm_cmpeq_epi8(one, fourths));
    }
    _mm_movemask_epi8(found) & OTHERS == 0
}

/// The window that begins at byte `at`, from 0 to 7, of two words in a row.
#[inline(always)]
pub(super) fn window([low, high]: [usize; 2], at: u32) -> usize {
    let both = (high as u128) << usize::BITS | low as u128;
    (both >> (8 * at)) as usize
}

/// The words of a piece of memory that are addresses inside the used arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Windows from here on have not been looked at.
    at: usize,
    end: usize,
    /// Windows of the block at `block` that may be pointers.
    found: u32,
    block: usize,
}

impl Words {
    /// Of `bytes` bytes from `start`, both multiples of eight.
    ///
    /// # Safety
    ///
    /// They can be read, and nobody writes to them, until the last call of [`next`](Self::next).
    #[inline(always)]
    pub(super) unsafe fn of(start: usize, bytes: usize) -> Self {
        debug_assert!(start.is_multiple_of(WORD) && bytes.is_multiple_of(WORD));
        Self {
            at: start,
            end: start + bytes,
            found: 0,
            block: start,
        }
    }

    /// The next of them.
    #[inline(always)]
    pub(super) fn next(&mut self, filter: &Filter) -> Option<usize> {
        loop {
            while self.found != 0 {
                let at = self.block + self.found.trailing_zeros() as usize;
                self.found &= self.found - 1;
                // SAFETY: a window within the piece, which can be read by `of`'s contract.
                let word = unsafe { ptr::with_exposed_provenance::<usize>(at).read_unaligned() };
                if filter.accepts(word) {
                    return Some(word);
                }
            }
            let left = self.end - self.at;
            let at = ptr::with_exposed_provenance::<u8>(self.at);
            self.block = self.at;
            if left >= COVER {
                // SAFETY: within the piece; SSE2 is part of x86-64.
                self.found = unsafe { filter.block(at) };
                self.at += BLOCK;
            } else if left == 2 * WORD {
                // SAFETY: within the piece.
                self.found = filter.pair(unsafe { at.cast::<[usize; 2]>().read() });
                self.at = self.end;
            } else if left == WORD {
                self.found = 1;
                self.at = self.end;
            } else {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(memory: &[u64], filter: &Filter) -> Vec<usize> {
        // SAFETY: a slice that is borrowed.
        let mut words =
            unsafe { Words::of(memory.as_ptr().expose_provenance(), size_of_val(memory)) };
        std::iter::from_fn(|| words.next(filter)).collect()
    }

    /// Byte by byte.
    fn expected(memory: &[u64], filter: &Filter) -> Vec<usize> {
        let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_le_bytes()).collect();
        let words = bytes
            .windows(WORD)
            .map(|w| usize::from_le_bytes(w.try_into().expect("eight")));
        words.filter(|&word| filter.accepts(word)).collect()
    }

    fn check(memory: &[u64]) {
        for used in [4 << 20, 4 << 30, 5 << 30, 200 << 30, 1 << 40] {
            let filter = Filter::new(used);
            assert_eq!(
                all(memory, &filter),
                expected(memory, &filter),
                "{memory:x?} {used:x}"
            );
            // SAFETY: a slice that is borrowed.
            if unsafe { filter.is_plain(memory.as_ptr().cast(), memory.len()) } {
                let words = memory.iter().map(|&word| word as usize);
                let aligned: Vec<_> = words.filter(|&word| filter.accepts(word)).collect();
                assert_eq!(aligned, expected(memory, &filter), "{memory:x?} {used:x}");
            }
        }
    }

    #[test]
    fn a_pointer_is_found_at_every_address_in_pieces_of_every_length() {
        for len in 0..12 {
            let mut memory = vec![0_u64; len];
            check(&memory);
            for at in 0..(len * WORD).saturating_sub(WORD - 1) {
                for offset in [0, 8, 0x12_3456, (4 << 30) + 16, (200 << 30) - 8] {
                    for fill in [0, 0xff, 1, 0xd3] {
                        let mut bytes = vec![fill; len * WORD];
                        bytes[at..at + WORD].copy_from_slice(&(START + offset).to_le_bytes());
                        for (word, bytes) in memory.iter_mut().zip(bytes.chunks_exact(WORD)) {
                            *word = u64::from_le_bytes(bytes.try_into().expect("eight"));
                        }
                        check(&memory);
                    }
                }
            }
        }
    }

    #[test]
    fn handles_in_their_places_are_plain() {
        let filter = Filter::new(4 << 20);
        for words in 0..9 {
            let mut memory = vec![START + 0x12_3458; words];
            // SAFETY: a vector that is borrowed.
            let is_plain = |memory: &[usize]| unsafe { filter.is_plain(memory.as_ptr(), words) };
            assert!(is_plain(&memory));
            if let Some(last) = memory.last_mut() {
                *last = 0xd3 << 40;
                assert!(!is_plain(&memory));
            }
        }
    }

    #[test]
    fn a_window_of_two_words_is_found_by_its_byte() {
        let filter = Filter::new(4 << 20);
        for at in 0..8 {
            let both = (START as u128 + 24) << (8 * at);
            let words = [both as usize, (both >> 64) as usize];
            assert_eq!(filter.pair(words), 1 << at);
            assert_eq!(window(words, at), START + 24);
        }
    }

    #[test]
    fn random_memory_of_likely_bytes_is_searched_like_byte_by_byte() {
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize
        };
        const LIKELY: [u8; 8] = [0, 0, 0, 1, 2, 0xd3, 0xd4, 0xff];
        for _ in 0..2000 {
            let memory: Vec<u64> = (0..random() % 20)
                .map(|_| u64::from_le_bytes(std::array::from_fn(|_| LIKELY[random() % 8])))
                .collect();
            check(&memory);
        }
    }

    #[test]
    fn nothing_behind_the_piece_is_read() {
        let page = crate::class::PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping.
        let at = unsafe { libc::mmap(ptr::null_mut(), 2 * page, protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the second half of it.
        assert_eq!(unsafe { libc::munmap(at.wrapping_byte_add(page), page) }, 0);
        let end = at.expose_provenance() + page;
        let filter = Filter::new(4 << 20);
        for bytes in (0..20).map(|words| words * WORD) {
            // SAFETY: the end of what is mapped.
            let mut words = unsafe { Words::of(end - bytes, bytes) };
            assert_eq!(words.next(&filter), None);
        }
        // SAFETY: mapped above.
        unsafe { libc::munmap(at, page) };
    }
}
