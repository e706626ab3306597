// Package evalue holds e-processes and confidence sequences: evidence that may
// be looked at at any time.
//
// # Counts of failures
//
// The primary engine is about marks. A mark is the first failure of one
// session. Under the null that canary and baseline sessions fail alike, a mark
// falls to the canary with a probability that is known before it: the canary's
// share of the sessions that were at risk. What is common to both arms (time of
// day, a slow back end, a bug in both) changes how many marks there are, not to
// whom they fall.
//
//  1. [NewGrid] makes the hazard ratios that all evidence is about.
//  2. [Grid.Add], [Grid.AddCell] or [Grid.AddBatch] folds marks into a [Marks],
//     which is the whole state, 128 B: a log likelihood at each of 14 ratios.
//     Marks of other cells and strata add ([Marks.Merge]), since independent
//     evidence multiplies.
//  3. [Grid.Harm], [Grid.HarmToOne] and [Grid.Safety] turn the state into e-processes,
//     [Grid.Interval] and [Grid.Estimate] into an effect.
//
// [MarksNeeded], [SafetyMarksNeeded] and [DetectableRatio] say beforehand what
// can be shown.
//
// # Other kinds of metric
//
//   - [TwoSample]: failures that are frequent, or an allocation that is not
//     controlled.
//   - [Quantile] and [Band]: values, from histograms with fixed edges.
//   - [BoundedMeans]: means of values with a bound; [AdjustedMeans]: of others, asymptotically
//     and with a covariate.
//   - [Ratio] and [Allocation]: whether sessions or clients themselves fall to
//     the arms as planned.
//
// # Many at once
//
// [Mean] joins e-processes of any dependence into one. [Average] and [SomeOf]
// are evidence that some tenant is hurt. [EBH] names those to blame.
//
// # Validity
//
// An e-process is not negative and has, under its null, an expectation of at
// most 1 at every stopping time. By Ville's inequality it ever reaches 1/alpha
// with probability at most alpha. So it may be looked at after every mark,
// acted upon at any time, and latched. All evidence is a natural logarithm
// (LogE); compare it with ln(1/alpha). Of all tests only [AdjustedMeans] is valid
// asymptotically, and refuses where that is not near.
//
// The package imports neither clock nor randomness. Values of its types are
// not safe for concurrent use, but a [Grid], [Quantile], [BetaMixture] and
// [Band] are: they never change.
//
// The methods, their assumptions and what they do not cover: docs/statistics.md.
package evalue
