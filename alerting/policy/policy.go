// Package policy says which transitions of a verdict are worth telling. It
// reads verdicts and decides nothing about them.
package policy

import (
	"slices"

	"serin.dev/serin/analysis/verdict"
)

// Worth reports whether a verdict is worth telling to somebody who was told
// prev, which is nil before the first one. Worth telling are the first verdict
// of a rollout and of each stage, every change of the decision, a final
// decision for another reason, and a hold because something is wrong with the
// data or because a deadline has passed. One hold that follows another for want of evidence is not.
func Worth(prev, v *verdict.Verdict) bool {
	if prev == nil || prev.Stage != v.Stage || prev.Decision != v.Decision {
		return true
	}
	if leading(prev) == leading(v) {
		return false
	}
	return v.Decision != verdict.Hold || slices.Contains(lookAt, leading(v))
}

// Overtaken reports whether a verdict must not be told any more, since a newer
// one was given: a promote that is none any more, a rollback that a person took back,
// and anything but a rollback once there is one.
func Overtaken(decision verdict.Decision, number uint64, newest *verdict.Verdict) bool {
	if newest == nil || newest.Number <= number {
		return false
	}
	return decision != verdict.Hold && newest.Decision != decision || decision == verdict.Hold && newest.Decision == verdict.Rollback
}

// lookAt are the leading reasons of holds that somebody should look at.
var lookAt = []verdict.Code{verdict.SampleRatio, verdict.Stale, verdict.Override, verdict.Instruments, verdict.UnequalLoss,
	verdict.Missing, verdict.Influence, verdict.Advisory, verdict.BudgetHolds, verdict.Deadline}

// leading returns the code of the first reason, empty where there is none.
func leading(v *verdict.Verdict) verdict.Code {
	if len(v.Reasons) == 0 {
		return ""
	}
	return v.Reasons[0].Code
}
