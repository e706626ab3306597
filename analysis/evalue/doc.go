// Package evalue holds e-processes and confidence sequences on marks.
//
// A mark is the first failure of one session. Under the null that canary and
// baseline sessions fail alike, a mark falls to the canary with a probability
// that is known before it: the canary's share of the sessions that were at
// risk. What is common to both arms (time of day, a slow back end, a bug in
// both) changes how many marks there are, not to whom they fall.
//
// The way through the package:
//
//  1. [NewGrid] fixes the hazard ratios that all evidence is about.
//  2. [Grid.Add] or [Grid.AddBatch] folds marks into a [Marks], which is the
//     whole state: a log likelihood at each ratio of the grid. Marks of other
//     epochs and strata add ([Marks.Merge]), since independent evidence
//     multiplies.
//  3. [Grid.Harm] and [Grid.Safety] turn the state into e-processes,
//     [Grid.Interval] and [Grid.Estimate] into an effect.
//  4. [Mean] joins e-processes of any dependence into one; [EBH] names those
//     to blame.
//
// [Ratio] tests something else with the same likelihood: whether sessions
// themselves fall to the canary as planned.
//
// # Validity
//
// An e-process is not negative and has, under its null, an expectation of at
// most 1 at every stopping time. By Ville's inequality it ever reaches 1/alpha
// with probability at most alpha. So it may be looked at after every mark,
// acted upon at any time, and latched. All evidence is a natural logarithm
// (LogE); compare it with ln(1/alpha).
//
// The package imports neither clock nor randomness. Values of its types are
// not safe for concurrent use, but a [Grid] is: it never changes.
//
// The method, its assumptions and what it does not cover: docs/statistics.md.
package evalue
