// Allocators that programs bring along and that are not instrumented, being written in C or C++.
// They have memory from the kernel, and use a block again for another thread by an order that the
// detector does not see. So their functions are followed where a crate calls them: a call in an
// instrumented crate becomes the call and what the detector is told of the block.
//
// This text is put behind `hooks.rs` for all crates but the standard library, which has no such
// calls, and whose own calls of `malloc` are the C library's.

unsafe extern "C" {
    fn raddle_race_block_wanted_v1();
    fn raddle_race_block_given_v1(block: *mut u8, size: usize);
    fn raddle_race_block_ends_v1(block: *mut u8, size: usize);
    fn raddle_race_block_moves_v1(block: *mut u8, size: usize, new_size: usize);
}

/// What these functions are given in a register, as assembly takes it.
trait Argument {
    fn bits(self) -> usize;
}

impl Argument for usize {
    #[inline(always)]
    fn bits(self) -> usize {
        self
    }
}

impl Argument for *mut u8 {
    #[inline(always)]
    fn bits(self) -> usize {
        self as usize
    }
}

/// C's `int`.
impl Argument for i32 {
    #[inline(always)]
    fn bits(self) -> usize {
        self as usize
    }
}

/// Calls the real function. By its name in assembly: a call that the compiler sees would be that of
/// the hook, which never ends.
macro_rules! real {
    ($symbol:literal $a:expr, $b:expr, $c:expr, $d:expr) => {{
        let result: usize;
        asm!(
            concat!("call ", $symbol, "@PLT"),
            in("rdi") $a.bits(), in("rsi") $b.bits(), in("rdx") $c.bits(), in("rcx") $d.bits(),
            lateout("rax") result,
            clobber_abi("C"),
        );
        result
    }};
    ($symbol:literal $a:expr) => { real!($symbol $a, 0usize, 0usize, 0usize) };
    ($symbol:literal $a:expr, $b:expr) => { real!($symbol $a, $b, 0usize, 0usize) };
    ($symbol:literal $a:expr, $b:expr, $c:expr) => { real!($symbol $a, $b, $c, 0usize) };
}

/// The functions of an allocator: those that make a block, those that free one, those that give it
/// another size (and which). `size`: what tells how many bytes of a block may be used, which is
/// what is known of it when it ends. The types are those of the declarations in Rust: a call by
/// another type would not be replaced.
macro_rules! allocator {
    (size $size:literal;
     make $($make:literal $make_fn:ident($($a:ident: $at:ty),*);)*
     free $($free:literal $free_fn:ident($p:ident $(, $b:ident: $bt:ty)*);)*
     move $($move:literal $move_fn:ident($q:ident $(, $c:ident: $ct:ty)*) $moved:expr;)*) => {
        $(#[unsafe(export_name = $make)]
        pub unsafe extern "C" fn $make_fn($($a: $at),*) -> *mut u8 {
            // SAFETY: tells the detector; the call is the caller's.
            unsafe {
                raddle_race_block_wanted_v1();
                let block = real!($make $($a),*) as *mut u8;
                raddle_race_block_given_v1(block, real!($size block));
                block
            }
        })*
        $(#[unsafe(export_name = $free)]
        pub unsafe extern "C" fn $free_fn($p: *mut u8 $(, $b: $bt)*) {
            // SAFETY: as above.
            unsafe {
                raddle_race_block_ends_v1($p, real!($size $p));
                real!($free $p $(, $b)*);
            }
        })*
        $(#[unsafe(export_name = $move)]
        pub unsafe extern "C" fn $move_fn($q: *mut u8 $(, $c: $ct)*) -> *mut u8 {
            // SAFETY: as above.
            unsafe {
                let size = real!($size $q);
                raddle_race_block_moves_v1($q, size, $moved);
                raddle_race_block_wanted_v1();
                let block = real!($move $q $(, $c)*) as *mut u8;
                if block.is_null() && $moved != 0 {
                    // It goes on where it was.
                    raddle_race_block_given_v1($q, size);
                } else {
                    raddle_race_block_given_v1(block, real!($size block));
                }
                block
            }
        })*
    };
}

// mimalloc.
allocator! {
    size "mi_usable_size";
    make
    "mi_malloc" mi_malloc(size: usize);
    "mi_zalloc" mi_zalloc(size: usize);
    "mi_calloc" mi_calloc(count: usize, size: usize);
    "mi_malloc_small" mi_malloc_small(size: usize);
    "mi_zalloc_small" mi_zalloc_small(size: usize);
    "mi_malloc_aligned" mi_malloc_aligned(size: usize, align: usize);
    "mi_zalloc_aligned" mi_zalloc_aligned(size: usize, align: usize);
    "mi_malloc_aligned_at" mi_malloc_aligned_at(size: usize, align: usize, offset: usize);
    "mi_zalloc_aligned_at" mi_zalloc_aligned_at(size: usize, align: usize, offset: usize);
    "mi_aligned_alloc" mi_aligned_alloc(align: usize, size: usize);
    "mi_heap_malloc" mi_heap_malloc(heap: *mut u8, size: usize);
    "mi_heap_zalloc" mi_heap_zalloc(heap: *mut u8, size: usize);
    "mi_heap_malloc_aligned" mi_heap_malloc_aligned(heap: *mut u8, size: usize, align: usize);
    "mi_heap_zalloc_aligned" mi_heap_zalloc_aligned(heap: *mut u8, size: usize, align: usize);
    free
    "mi_free" mi_free(block);
    "mi_free_size" mi_free_size(block, size: usize);
    "mi_free_aligned" mi_free_aligned(block, align: usize);
    "mi_free_size_aligned" mi_free_size_aligned(block, size: usize, align: usize);
    move
    "mi_realloc" mi_realloc(block, size: usize) size;
    "mi_realloc_aligned" mi_realloc_aligned(block, size: usize, align: usize) size;
    "mi_rezalloc" mi_rezalloc(block, size: usize) size;
    "mi_rezalloc_aligned" mi_rezalloc_aligned(block, size: usize, align: usize) size;
}

// jemalloc, as Rust packages build it.
allocator! {
    size "_rjem_malloc_usable_size";
    make
    "_rjem_malloc" rjem_malloc(size: usize);
    "_rjem_calloc" rjem_calloc(count: usize, size: usize);
    "_rjem_mallocx" rjem_mallocx(size: usize, flags: i32);
    "_rjem_aligned_alloc" rjem_aligned_alloc(align: usize, size: usize);
    free
    "_rjem_free" rjem_free(block);
    "_rjem_dallocx" rjem_dallocx(block, flags: i32);
    "_rjem_sdallocx" rjem_sdallocx(block, size: usize, flags: i32);
    move
    "_rjem_realloc" rjem_realloc(block, size: usize) size;
    "_rjem_rallocx" rjem_rallocx(block, size: usize, flags: i32) size;
}

// jemalloc, and what else takes the place of the C library's heap in the program itself.
allocator! {
    size "malloc_usable_size";
    make
    "malloc" malloc(size: usize);
    "calloc" calloc(count: usize, size: usize);
    "mallocx" mallocx(size: usize, flags: i32);
    "aligned_alloc" aligned_alloc(align: usize, size: usize);
    "memalign" memalign(align: usize, size: usize);
    free
    "free" free(block);
    "dallocx" dallocx(block, flags: i32);
    "sdallocx" sdallocx(block, size: usize, flags: i32);
    move
    "realloc" realloc(block, size: usize) size;
    "rallocx" rallocx(block, size: usize, flags: i32) size;
}

// snmalloc.
allocator! {
    size "sn_rust_usable_size";
    make
    "sn_rust_alloc" sn_rust_alloc(align: usize, size: usize);
    "sn_rust_alloc_zeroed" sn_rust_alloc_zeroed(align: usize, size: usize);
    free
    "sn_rust_dealloc" sn_rust_dealloc(block, align: usize, size: usize);
    move
    "sn_rust_realloc" sn_rust_realloc(block, align: usize, old: usize, size: usize) size;
}
