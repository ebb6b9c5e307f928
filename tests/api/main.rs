//! What the public API promises, case by case, under every configuration of the runtime.
//!
//! The number of Ps, race mode and the thread-local mode are chosen once per process, at boot. So a case runs in a
//! process of its own: each `#[test]` below starts this program again with the right environment and the name of the
//! case, gives it a time limit, and shows its output if it fails. In race mode a case must be free of races as well.
//!
//! `cargo test --test api` runs all; `cargo test --test api p2_race::channels` runs what it says.
//! `RADDLE_DEBUG` from outside counts for every case: `RADDLE_DEBUG=notls,yield=3` runs the whole
//! suite that way.
//! `.ci/run` does so with thread-bound thread-locals, and with collections all the time.

mod channels;
mod destructors;
mod exclusion;
mod float_control;
mod gc;
mod goroutines;
mod scheduling;
mod select;
mod shared;
mod thread_locals;
mod threads;
mod time;

#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::process::Command;
use std::time::Duration;

/// Far more than any case needs on a busy machine: a case that is still running then is hung.
const LIMIT: Duration = Duration::from_secs(120);
const CASE: &str = "RADDLE_TEST_CASE";

struct Configuration {
    procs: &'static str,
    race: &'static str,
}

impl Configuration {
    /// Runs the case in a process of its own.
    fn check(&self, case: &str) {
        let outer = env::var("RADDLE_DEBUG").unwrap_or_default();
        let program = env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(["--exact", "case", "--nocapture", "--test-threads=1"]);
        command
            .env(CASE, case)
            .env("RADDLE_PROCS", self.procs)
            .env("RADDLE_RACE", self.race);
        // `support::run` keeps what is the runtime's from the program.
        command.env("RADDLE_DEBUG", outer);
        let outcome = support::run(&mut command, LIMIT);
        assert!(
            outcome.status.success() && outcome.stdout.contains("1 passed"),
            "{case}: {outcome}"
        );
    }
}

/// The other end of `check`: runs the case that the environment names; none in the process that the user started.
#[test]
fn case() {
    let Ok(name) = env::var(CASE) else { return };
    let (_, case) = CASES
        .iter()
        .find(|(case, _)| *case == name)
        .expect("`check` names a case");
    raddle::run(case);
    assert_eq!(
        raddle::race::enabled(),
        env::var("RADDLE_RACE").as_deref() == Ok("1")
    );
    let thread_bound =
        env::var("RADDLE_DEBUG").is_ok_and(|debug| debug.split(',').any(|key| key == "notls"));
    assert!(!thread_bound || raddle::runtime::tls_mode() == "thread");
    assert_eq!(raddle::race::errors(), 0, "{name} has data races");
}

/// Makes a `#[test]` of every case.
macro_rules! configuration {
    ($name:ident: $procs:literal, $race:literal; $($module:ident [$($case:ident)*])*) => {
        mod $name {
            const SELF: crate::Configuration =
                crate::Configuration { procs: $procs, race: $race };
            $(mod $module {
                $(#[test]
                fn $case() {
                    super::SELF.check(concat!(stringify!($module), "::", stringify!($case)));
                })*
            })*
        }
    };
}

macro_rules! suite {
    ($($cases:tt)*) => {
        list! { $($cases)* }
        configuration! { p1: "1", "0"; $($cases)* }
        configuration! { p2: "2", "0"; $($cases)* }
        configuration! { p8: "8", "0"; $($cases)* }
        configuration! { p1_race: "1", "1"; $($cases)* }
        configuration! { p2_race: "2", "1"; $($cases)* }
        configuration! { p8_race: "8", "1"; $($cases)* }
    };
}

macro_rules! list {
    ($($module:ident [$($case:ident)*])*) => {
        const CASES: &[(&str, fn())] = &[
            $($((concat!(stringify!($module), "::", stringify!($case)), $module::$case),)*)*
        ];
    };
}

suite! {
    goroutines [
        join_gives_the_result
        join_gives_the_panic
        a_panic_of_any_type_comes_out
        exit_runs_destructors_and_shows_in_join
        exit_is_not_a_panic_for_a_scope
        scope_lends_and_waits
        scope_passes_a_panic_on
        scope_handles_give_results
        scopes_nest
        names_and_ids_are_the_goroutines_own
        is_finished_turns_true
        a_dropped_handle_detaches
        the_result_of_a_detached_goroutine_is_dropped
        big_closures_and_results_arrive_whole
        a_big_stack_holds_a_deep_recursion
        ten_thousand_are_alive_at_once
        goroutines_start_goroutines
        run_nests
        run_works_from_several_threads_at_once
        run_passes_a_panic_on
        num_goroutines_counts_the_living
        all_may_write_to_one_buffer
    ]
    thread_locals [
        values_survive_a_park_inside_with
        a_park_inside_a_drop_while_unwinding_keeps_the_panic_count
        the_thread_id_stays_and_is_the_goroutines_own
        destructors_run_before_join_returns
        a_fresh_goroutine_finds_fresh_values
        errno_is_read_where_the_call_was_made
        os_threads_start_and_end_inside
    ]
    float_control [
        a_wait_keeps_them
        a_new_goroutine_begins_with_the_defaults
        a_crowd_keeps_them_apart
        a_blocking_call_runs_with_them
        a_locked_thread_keeps_them
        a_tight_loop_that_lost_its_turn_keeps_them
        a_plain_threads_words_stay_with_it
    ]
    scheduling [
        a_tight_loop_does_not_starve_others
        a_call_that_blocks_the_thread_does_not_starve_others
        blocking_gives_the_p_up
        blocking_returns_and_unwinds
        yield_lets_others_run
        yield_passes_nobody
        a_locked_goroutine_stays_on_its_thread
        a_locked_goroutine_talks_to_others
        a_thread_ends_with_the_goroutine_that_locked_it
        procs_change_under_load
        procs_says_what_was_set
    ]
    channels [
        unbuffered_send_meets_receive
        messages_arrive_in_order
        a_buffer_holds_its_capacity_and_no_more
        unbounded_never_waits
        the_last_sender_ends_the_iteration
        the_last_receiver_gives_messages_back
        close_drains_and_then_ends
        close_wakes_everyone
        timeouts_run_out
        a_timeout_that_is_not_needed_does_no_harm
        try_forms_never_wait
        zero_sized_messages_are_counted
        over_aligned_messages_stay_aligned
        messages_of_a_mebibyte_arrive_whole
        a_capacity_costs_nothing
        a_select_goes_with_its_goroutine
        every_message_is_dropped_exactly_once
        many_to_many_loses_nothing
        a_ring_of_goroutines_passes_a_message
        after_tick_and_never
    ]
    select [
        takes_the_ready_case
        is_fair_among_ready_cases
        default_runs_when_nothing_is_ready
        default_with_a_timeout_waits_for_it
        a_parked_select_is_woken_by_any_case
        sends_and_receives_mix
        a_case_on_both_ends_of_a_channel_does_not_meet_itself
        losers_of_a_race_for_one_message_go_on_waiting
        an_ended_channel_is_ready
        messages_of_abandoned_sends_are_kept
        the_dynamic_form_selects_over_many
        biased_takes_the_first_ready
    ]
    exclusion [
        mutex_excludes
        try_lock_and_timeouts
        rwlock_admits_readers_together
        condvar_hands_over
        condvar_times_out
        once_runs_once
        once_cell_is_set_once
        wait_group_waits_for_all
        barrier_releases_together_with_one_leader
        semaphore_bounds
        a_lock_is_free_again_after_a_panic
        atomics_count
    ]
    shared [
        variables_hold_values
        slices_and_maps_hold_values
    ]
    time [
        sleep_is_never_short
        sleepers_wake_in_order_of_their_deadlines
        a_stopped_timer_does_not_fire
        a_reset_timer_fires_once
        after_func_runs_on_a_goroutine
        a_ticker_ticks
        a_ticker_of_a_microsecond_lets_others_run
        fifty_timers_of_a_nanosecond_starve_nobody
        thousands_of_tickers_of_a_nanosecond_starve_nobody
        many_sleep_at_once
    ]
    threads [
        os_threads_send_and_receive
        os_threads_lock_with_goroutines
        os_threads_start_and_join_goroutines
        os_threads_select_and_sleep
        os_threads_wait_in_wait_groups
    ]
    gc [
        a_handle_leads_to_its_value
        values_with_destructors_are_aligned_too
        handles_behave_as_their_values
        a_value_that_is_not_send_stays_with_its_maker
        slices_hold_their_values
        empty_slices_are_no_object
        an_impossible_size_panics
        a_panic_half_way_drops_what_was_made
        weak_pointers_keep_nothing_alive
        a_value_may_know_itself
        atomic_places_change_hands
        a_lock_free_stack_loses_nothing
        what_is_reached_stays
        the_middle_of_a_value_is_enough
        statics_and_thread_locals_keep_alive
        parked_goroutines_keep_alive
        os_threads_keep_alive
        c_threads_keep_alive
        memory_of_c_keeps_alive_as_a_root
        cycles_go
        a_long_list_is_marked_and_goes
        a_tight_loop_stays_bounded
        channels_carry_handles
        collections_asked_for_at_once_all_come_back
        collections_meet_a_change_of_procs
        control_says_what_was_set
        values_may_hold_what_is_not_scanned
    ]
    destructors [
        a_lost_value_is_dropped_once
        slices_drop_every_value
        it_runs_on_the_finalizer_goroutine
        an_object_goes_before_those_it_reaches
        cycles_are_dropped_too
        a_value_that_holds_itself_is_gone_for_its_own_destructor
        a_panic_does_not_stop_the_others
        weak_pointers_are_empty_before_it_runs
        weak_pointers_that_die_with_their_holder_are_empty
        it_waits_for_what_is_borrowed
        it_may_save_what_it_reaches
        it_may_do_what_goroutines_do
        exit_in_one_does_not_stop_the_others
        what_was_done_with_a_value_comes_before
    ]
}
