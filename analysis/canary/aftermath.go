package canary

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
)

// A rollback that was delivered is followed by what the canary's sessions do. Pages
// that are open stay open, so that only starts of sessions tell whether it took
// effect.

// defaultEffect is the time that a rollback has to take effect.
const defaultEffect = Duration(10 * time.Minute)

// effectAlpha is the chance that one window says of a share that has fallen to a
// half, and to no less, that it has not. Three windows are looked at each minute:
// in a whole day at just a half that adds up to at most 4 % (the union bound).
const effectAlpha = 1e-5

// referenceAlpha is the level of the interval of the share before the delivery,
// whose upper end the share after it is compared with.
const referenceAlpha = 0.01

// effectWindows are those that are looked at, in minutes: a small app needs the
// longer ones. The first one says when it is over.
var effectWindows = [...]int64{10, 30, 60}

// startsKept is how many minutes are kept: the longest window, and some for what
// comes late.
const startsKept = 75

// StartMinute counts the sessions that started in one minute of their own time.
type StartMinute struct {
	At int64 // minutes since 1970
	verdict.Starts
}

// Deliver notes that a receiver took a rollback at a time in Unix ms. The first one
// counts.
func (t *Test) Deliver(at int64) {
	if t.Delivered != 0 {
		return
	}
	t.Delivered = at
	// Whole minutes of the stage, since another stage had another share.
	from := max((t.Staged+59_999)/60_000, at/60_000-60)
	t.Reference = t.starts(from, at/60_000)
}

// Withdraw forgets that a rollback was delivered: a person decided anew.
func (t *Test) Withdraw() { t.Delivered, t.Reference = 0, verdict.Starts{} }

// start counts a session by its own time; one that tells of more than is kept is too
// old to matter.
func (t *Test) start(at, received int64, canary bool) {
	m := min(at, received) / 60_000
	newest := received / 60_000
	if m <= newest-startsKept {
		return
	}
	i, ok := slices.BinarySearchFunc(t.Starts, m, func(s StartMinute, m int64) int { return cmp.Compare(s.At, m) })
	if !ok {
		t.Starts = slices.Insert(t.Starts, i, StartMinute{At: m})
	}
	t.Starts[i].All++
	if canary {
		t.Starts[i].Canary++
	}
	old := 0
	for old < len(t.Starts) && t.Starts[old].At <= newest-startsKept {
		old++
	}
	t.Starts = slices.Delete(t.Starts, 0, old)
}

// starts sums minutes of [from, to).
func (t *Test) starts(from, to int64) (sum verdict.Starts) {
	for _, s := range t.Starts {
		if s.At >= from && s.At < to {
			sum.All += s.All
			sum.Canary += s.Canary
		}
	}
	return sum
}

// Aftermath says what became of the rollback, nil where none was delivered. was is
// what was said before: an ineffective rollback is so until the share of the last
// ten minutes is below a half of what it was. Number is the caller's to fill in.
//
// The test is of the null that the canary's share of the app's starts has fallen to
// at most a half of what it was, taken at the upper end of its interval (99 %): the
// likelihood ratio of the old share to that half, which is an e-value for it and
// for any lower share. What is left of old pages, service workers and apps that
// are not updated is far below, and says nothing.
func (t *Test) Aftermath(q Question, was bool) *verdict.Aftermath {
	if t.Delivered == 0 {
		return nil
	}
	end := q.At / 60_000
	if q.Behind {
		end = t.Now / 60_000
	}
	within := cmp.Or(t.Rollout.Policy.EffectiveWithin, defaultEffect)
	begins := (t.Delivered + within.ms() + 59_999) / 60_000
	minute := func(m int64) time.Time { return time.Unix(60*m, 0).UTC() }
	a := &verdict.Aftermath{Rollout: t.Rollout.ID, Delivered: time.UnixMilli(t.Delivered).UTC(), Begins: minute(begins), Through: minute(end),
		Before: t.Reference, LogE: verdict.Unknown, Needed: math.Log(1 / effectAlpha)}
	a.After = t.starts(max(begins, end-effectWindows[0]), end)
	share, half, ok := halved(t.Reference)
	switch {
	case end <= begins:
		a.Sentence = fmt.Sprintf("The rollback of %s was delivered at %s; whether sessions go on starting on it is looked at from %s.", t.Rollout.Change, clock(a.Delivered, a.Through), clock(a.Begins, a.Through))
		return a
	case !ok:
		a.Sentence = fmt.Sprintf("The rollback of %s was delivered at %s; too few sessions started before it, %d on the canary, to tell whether it has an effect.", t.Rollout.Change, clock(a.Delivered, a.Through), t.Reference.Canary)
		return a
	}
	logE := math.Inf(-1)
	for _, w := range effectWindows {
		s := t.starts(max(begins, end-w), end)
		logE = max(logE, float64(s.Canary)*math.Log(share/half)+float64(s.All-s.Canary)*(math.Log1p(-share)-math.Log1p(-half)))
	}
	a.LogE = verdict.Bound(logE)
	over := float64(a.After.Canary) < share/2*float64(a.After.All) || a.After.Canary == 0
	a.Ineffective = logE >= a.Needed && !over || was && !over
	if a.Ineffective {
		a.Sentence = fmt.Sprintf("The rollback of %s was delivered at %s and has no effect: %d of %d sessions of the last minutes (%.3g %%) started on it, %.3g %% before.",
			t.Rollout.Change, clock(a.Delivered, a.Through), a.After.Canary, a.After.All, 100*float64(a.After.Canary)/float64(a.After.All), 100*share)
	} else {
		a.Sentence = fmt.Sprintf("The rollback of %s was delivered at %s: %d of %d sessions of the last minutes started on it, %.3g %% before.",
			t.Rollout.Change, clock(a.Delivered, a.Through), a.After.Canary, a.After.All, 100*share)
	}
	return a
}

// halved returns a canary's share and the half of the most that it may have been; ok
// is false where so little is known of it that the two cannot be told apart.
func halved(s verdict.Starts) (share, half float64, ok bool) {
	if s.Canary == 0 || s.Canary == s.All {
		return 0, 0, false
	}
	share = float64(s.Canary) / float64(s.All)
	_, hi := evalue.ProportionInterval(s.Canary, s.All, s.All, referenceAlpha)
	half = hi / 2
	return share, half, half < share
}
