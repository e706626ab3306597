// Package judge is the classical canary judge: for two samples of one metric
// it decides, at one point in time, whether the canary's values are High, Low
// or neither (Pass), by the Mann-Whitney test with a Hodges-Lehmann shift. It
// takes the settings and gives the labels of Kayenta's NetflixACAJudge, so that
// who comes from there finds the decisions that they know.
//
// It is not what Serin's own verdicts rest on. It has a fixed number of values
// and one look: asked again and again it errs ever more often, values that
// share a swing of the day are no independent draws, and a small canary beside a
// large baseline has another distribution of per-minute rates even where nothing
// is wrong. docs/statistics.md has the measurements. Use analysis/evalue.
//
// The decisions are those of Kayenta but where its solver's absolute tolerance
// of 1e-4 decides: this package inverts the test exactly, so that a decision
// does not depend on the unit; and where there are too few values for the
// confidence, 4 and 4 at 0.98: Kayenta's interval ends at the least difference
// there is, which it calls High where the samples do not overlap, and the test
// rejects nothing. Here that is Pass, with the reason.
package judge
