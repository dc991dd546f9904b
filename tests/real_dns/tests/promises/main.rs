//! gaiter's promises with the real `getaddrinfo` against real DNS servers that misbehave.
//!
//! Every trial runs in its own process and namespaces, so that it may rewrite `resolv.conf`, take port 53, use up the process's
//! descriptors, or end the process. Where namespaces are not permitted, every trial fails and says so. With `GAITER_ALLOW_SKIP`
//! set, the trials are ignored instead.

mod changes;
mod differential;
mod endings;
mod faults;
mod hickory;
mod hung;
mod machines;
mod outage;
mod peers;
mod queries;
mod support;
mod traced;
mod watches;

use std::env;
use std::process::ExitCode;

use gaiter_real_dns::namespace;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::support::{await_that, threads_named};

/// Set in the process of a trial, to its name.
const TRIAL: &str = "GAITER_TRIAL";

/// How long a trial may take before it is killed. No trial needs nearly as much.
const SECONDS: u32 = 180;

#[rustfmt::skip]
const TRIALS: &[(&str, fn())] = &[
    ("differential::loopback_only", differential::loopback_only),
    ("differential::musl", differential::musl),
    ("differential::both_families", differential::both_families),
    ("differential::ipv4_only", differential::ipv4_only),
    ("differential::search_list", differential::search_list),
    ("differential::edns_and_single_request", differential::edns_and_single_request),
    ("differential::a_second_server_behind_one_that_refuses", differential::a_second_server_behind_one_that_refuses),
    ("differential::a_second_server_behind_one_that_is_silent", differential::a_second_server_behind_one_that_is_silent),
    ("differential::no_server_at_all", differential::no_server_at_all),
    ("differential::hosts_file", differential::hosts_file),
    ("queries::a_thousand_callers_cost_one_call", queries::a_thousand_callers_cost_one_call),
    ("queries::a_cached_name_costs_none_and_a_refresh_one_call", queries::a_cached_name_costs_none_and_a_refresh_one_call),
    ("queries::a_search_list_costs_what_glibc_asks", queries::a_search_list_costs_what_glibc_asks),
    ("queries::failures_are_asked_again_when_they_may_be", queries::failures_are_asked_again_when_they_may_be),
    ("outage::a_server_goes_silent_under_load_and_comes_back", outage::a_server_goes_silent_under_load_and_comes_back),
    ("outage::second_calls_add_little_to_an_outage", outage::second_calls_add_little_to_an_outage),
    ("hung::six_hundred_silent_names_harm_nobody", hung::six_hundred_silent_names_harm_nobody),
    ("hung::cancelled_callers_are_gone_at_once", hung::cancelled_callers_are_gone_at_once),
    ("changes::resolv_conf", changes::resolv_conf),
    ("changes::hosts", changes::hosts),
    ("changes::nsswitch_conf", changes::nsswitch_conf),
    ("watches::each_change_is_given_and_no_failure_is", watches::each_change_is_given_and_no_failure_is),
    ("watches::rotation_is_one_set_for_those_that_keep_it", watches::rotation_is_one_set_for_those_that_keep_it),
    ("watches::a_short_ttl_costs_a_lookup_a_second", watches::a_short_ttl_costs_a_lookup_a_second),
    ("watches::ten_thousand", watches::ten_thousand),
    ("endings::neither_exit_nor_drop_nor_shutdown_waits", endings::neither_exit_nor_drop_nor_shutdown_waits),
    ("faults::no_descriptors", faults::no_descriptors),
    ("faults::no_room_for_a_thread", faults::no_room_for_a_thread),
    ("faults::a_full_receive_buffer", faults::a_full_receive_buffer),
    ("traced::inside_the_callers_span", traced::inside_the_callers_span),
    ("traced::a_forked_child_looks_up", traced::a_forked_child_looks_up),
    ("hickory::nothing_reads_it_and_it_says_so", hickory::nothing_reads_it_and_it_says_so),
    ("hickory::a_change_is_read_when_it_can_be", hickory::a_change_is_read_when_it_can_be),
    ("hickory::a_lookup_without_descriptors", hickory::a_lookup_without_descriptors),
    (
        "hickory::a_large_answer_is_ordered_in_turns_of_the_driver",
        hickory::a_large_answer_is_ordered_in_turns_of_the_driver,
    ),
    ("machines::many_behind_unbound", machines::many_behind_unbound),
    ("machines::unbound_serves_what_expired", machines::unbound_serves_what_expired),
];

fn main() -> ExitCode {
    if namespace::is_inside() {
        return run_inside();
    }
    let arguments = Arguments::from_args();
    let refused = if arguments.list { None } else { namespace::permitted().err() };
    let skip = refused.is_some() && env::var_os("GAITER_ALLOW_SKIP").is_some_and(|allow| !allow.is_empty());
    if let Some(reason) = &refused {
        eprintln!("namespaces are not permitted here: {reason}");
    }
    let trial = |&(name, _): &(&'static str, fn())| {
        let refused = refused.clone();
        let trial = Trial::test(name, move || match refused {
            Some(reason) => Err(Failed::from(format!("namespaces are not permitted here: {reason}"))),
            None => spawn(name),
        });
        let has_no_program = name == "differential::musl" && env::var_os(support::MUSL_LOOKUP).is_none();
        trial.with_ignored_flag(skip || has_no_program)
    };
    libtest_mimic::run(&arguments, TRIALS.iter().map(trial).collect()).exit_code()
}

/// Runs a trial, or the role for which a trial started this program.
fn run_inside() -> ExitCode {
    if let Some(role) = env::args().nth(1) {
        support::play(&role);
        return ExitCode::SUCCESS;
    }
    let wanted = env::var(TRIAL).expect("set by `spawn`");
    let (_, trial) = TRIALS.iter().find(|(name, _)| *name == wanted).expect("one of the above");
    trial();
    // Every resolver is gone, so every thread leaves. glibc frees a thread's resolver state after LeakSanitizer has forgotten the
    // thread, which would be a leak if the process ended in between.
    await_that("gaiter's threads to leave", || threads_named("gaiter") == 0);
    ExitCode::SUCCESS
}

/// Runs a trial in its own process and namespaces, and prints its output.
fn spawn(name: &str) -> Result<(), Failed> {
    let program = env::current_exe()?;
    let output = namespace::command(program, SECONDS).env(TRIAL, name).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failed::from(format!("{}\n{printed}\n{said}", output.status)));
    }
    if !printed.is_empty() {
        println!("{name}:\n{printed}");
    }
    Ok(())
}
