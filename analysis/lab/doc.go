// Package lab simulates rollouts and counts how often the engine errs, how soon
// it finds harm, and what does not move it. Simulated sessions go through
// [canary.Test] as those of clients do, and verdicts come out: no formula of the
// engine is repeated here, so that what is measured is what runs.
//
// A world ([WorldNames]) says who comes when, on which arm, and what fails. Its
// clients are drawn as beacons: the first one with the exposure, a second one
// some seconds later, and where a crash is told at the next launch a third one.
// Two engines take them:
//
//   - outcomes: what the sessions come to is told to the test. It takes about
//     1 us a session.
//   - beacons: each beacon goes as an Arrow row through the table of sessions,
//     duplicates and all, as it does behind the journal.
//
// Both give the same verdicts for the same draws (TestEnginesAgree). A rollout is
// a function of the seed and its number alone, however many workers share the
// work.
package lab
