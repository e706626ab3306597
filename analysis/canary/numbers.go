package canary

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/sketch"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Number is the evidence of one guardrail on values: of each session, or each
// user, one value, as it stood at the age of report_after. An age that is the
// same for all is what makes values of the two arms comparable, and each
// counting once is what bounds the weight of whoever sends much.
//
// Values are compared within a stratum and a stage: within one the canary's
// share of the sessions does not change, so that a drift over the day is the
// same in both arms. The evidence of earlier stages is kept and multiplied.
type Number struct {
	Name   string
	Values [2]int64   // counted, by arm
	Strata []Measured // by stratum of the test, as far as there are values
	// Harm and Safe are the logs of the evidence of the stages before on what all
	// strata share, where that is an approximation.
	Harm, Safe float64
}

// Measured is what a number has come to in one stratum since the stage began.
type Measured struct {
	Buckets [2]sketch.Histogram  // of a quantile
	Bounded *evalue.BoundedMeans // of a mean with a bound; nil: no value yet
	Sums    evalue.AdjustedMeans // of other means; of a ratio with the denominator as covariate
	// Harm and Safe are the logs of the evidence of the stages before.
	Harm, Safe float64
}

// Tally is what one session or user has come to so far.
type Tally struct {
	Sums []Sum // by number
}

// Sum is a tally of one number. Sums are whole multiples of 2^-16, so that the
// order in which events come changes no bit.
type Sum struct {
	Has   bool
	At    int64 // event time of the first or last value, Unix ms
	Value float64
	Per   float64 // the denominator of a ratio
}

// maxTallies bounds the sessions, and the users, whose values are awaited; a
// further one's are not counted.
const maxTallies = 1 << 20

// matured is one value that is to be counted.
type matured struct {
	number, stratum, arm int
	value, per           float64
	network              string
}

// startNumbers makes what the policy's guardrails on values need.
func (t *Test) startNumbers() {
	for _, name := range t.Rollout.Policy.numbers() {
		t.Numbers = append(t.Numbers, Number{Name: name})
	}
}

// rule returns the guardrail of a number.
func (t *Test) rule(i int) Guardrail { return t.Rollout.Policy.Guardrails[t.Numbers[i].Name] }

// tallies returns where values of a unit are kept, and the key there.
func (t *Test) tallies(unit string, s *session.Session, e session.Enrollment) (map[uint64]Tally, uint64) {
	if unit == UnitUser {
		return t.UserTallies, e.User
	}
	return t.Tallies, hash(s.Key.ID)
}

// await opens the tallies of a session that enters, and of the user whose first
// one it is.
func (t *Test) awaitNumbers(s *session.Session, e session.Enrollment) {
	if len(t.Numbers) == 0 {
		return
	}
	open := func(unit string) {
		in, key := t.tallies(unit, s, e)
		if len(in) < maxTallies {
			in[key] = Tally{Sums: make([]Sum, len(t.Numbers))}
		}
	}
	open(UnitSession)
	if e.Leads {
		open(UnitUser)
	}
}

// Observe adds the values in the rows [lo, hi) of one beacon to the tallies of
// its session and its user, while they are awaited.
func (t *Test) Observe(s *session.Session, e session.Enrollment, b *batch.Batch, lo, hi int) {
	for i := range t.Numbers {
		g := t.rule(i)
		in, key := t.tallies(g.Unit, s, e)
		tally, ok := in[key]
		if !ok {
			continue
		}
		sum := &tally.Sums[i]
		for row := lo; row < hi; row++ {
			if v, ok := valueOf(g.Metric, b, row); ok {
				sum.add(g.Take, v, b.Time(row))
			}
			if g.Kind == KindRatio {
				if v, ok := valueOf(g.Per, b, row); ok {
					sum.Per = clampSum(sum.Per + v)
				}
			}
		}
	}
}

// valueOf returns the value that a row has of a metric, such as vital/LCP. Events
// that have none, such as errors, count 1.
func valueOf(metric string, b *batch.Batch, row int) (float64, bool) {
	kind, name, _ := strings.Cut(metric, "/")
	if b.Kind(row).String() != kind || name != "" && b.Text(batch.Name, row) != name {
		return 0, false
	}
	v, ok := b.Value(row)
	if !ok {
		switch b.Kind(row) {
		case event.Vital, event.Metric, event.Start:
			return 0, false
		}
		v = 1
	}
	if !(v >= 0) || math.IsInf(v, 1) {
		return 0, false
	}
	return clampSum(v), true
}

// clampSum rounds to a multiple of 2^-16 and bounds: what a client sends is not
// to be trusted, and sums of such numbers are exact.
func clampSum(v float64) float64 { return math.Round(min(v, 1<<36)*(1<<16)) / (1 << 16) }

func (s *Sum) add(take string, v float64, at int64) {
	switch {
	case take == TakeSum:
		s.Value = clampSum(s.Value + v)
	case !s.Has:
		s.Value, s.At = v, at
	case take == TakeMax:
		s.Value = max(s.Value, v)
	case take == TakeFirst && at < s.At, take == TakeLast && at > s.At, at == s.At && v > s.Value: // equal times: the larger, whichever came first
		s.Value, s.At = v, at
	}
	s.Has = true
}

// mature takes the values of a session that has reached the age, and of the user
// whose first one it is.
func (t *Test) mature(s *session.Session, e session.Enrollment) {
	for i := range t.Numbers {
		g := t.rule(i)
		if g.Unit == UnitUser && !e.Leads {
			continue
		}
		in, key := t.tallies(g.Unit, s, e)
		tally, ok := in[key]
		if !ok {
			continue
		}
		sum := tally.Sums[i]
		if sum.Has && g.Kind != KindRatio || g.Kind == KindRatio && sum.Per > 0 || g.Take == TakeSum && g.Kind == KindMean {
			t.ripe = append(t.ripe, matured{i, e.Stratum, side(e.Canary), sum.Value, sum.Per, e.Network})
		}
	}
	if len(t.Numbers) > 0 {
		delete(t.Tallies, hash(s.Key.ID))
		if e.Leads {
			delete(t.UserTallies, e.User)
		}
	}
}

// count counts the values that matured in the epochs that ended, in an order of
// their own: that in which they came must not matter.
func (t *Test) count() {
	slices.SortFunc(t.ripe, func(a, b matured) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.stratum, b.stratum), cmp.Compare(a.arm, b.arm), cmp.Compare(a.value, b.value),
			cmp.Compare(a.per, b.per), cmp.Compare(a.network, b.network))
	})
	for _, m := range t.ripe {
		n := &t.Numbers[m.number]
		for len(n.Strata) <= m.stratum {
			n.Strata = append(n.Strata, Measured{})
		}
		n.Values[m.arm]++
		g := t.rule(m.number)
		var share *Share
		if network := t.Senders.of(m.network); network != nil {
			share = network.share(m.number, m.stratum)
		}
		n.Strata[m.stratum].add(&g, m, share)
	}
	t.ripe = t.ripe[:0]
}

// add counts one value, and notes in a network's share what it added.
func (d *Measured) add(g *Guardrail, m matured, share *Share) {
	var only evalue.AdjustedMeans
	switch {
	case g.Kind == KindQuantile:
		mustCount(d.Buckets[m.arm].Add(m.value))
		if share != nil {
			mustCount(share.Buckets[m.arm].Add(m.value))
		}
		return
	case g.Kind == KindMean && g.Bound > 0:
		if d.Bounded == nil {
			d.Bounded = evalue.NewBoundedMeans(g.Bound)
		}
		before := d.Bounded.Arms[m.arm]
		mustCount(d.Bounded.Add(m.arm == 1, min(m.value, g.Bound)))
		if share != nil {
			share.Bounded[m.arm].note(&before, &d.Bounded.Arms[m.arm])
		}
		return
	case g.Kind == KindMean:
		mustCount(only.Add(m.arm == 1, m.value, 0))
	default:
		mustCount(only.Add(m.arm == 1, m.value, m.per))
	}
	d.Sums.Merge(only)
	if share != nil {
		share.Sums.Merge(only)
	}
}

func mustCount(err error) {
	if err != nil {
		panic("BUG: a value that was let pass: " + err.Error())
	}
}

// Share is what one network has brought to a number in one stratum.
type Share struct {
	Number, Stratum int
	Buckets         [2]sketch.Histogram
	Bounded         [2]Bets
	Sums            evalue.AdjustedMeans
}

// Bets are the logs of the factors that a network's values had in the capitals
// of a bounded mean. Without them the capitals are what they would be had those
// bets not been made; all other bets stand, so they are e-processes still.
type Bets struct{ Above, Below []float64 }

func (b *Bets) note(before, after *evalue.BoundedMean) {
	if b.Above == nil {
		b.Above, b.Below = make([]float64, len(after.LogAbove)), make([]float64, len(after.LogBelow))
	}
	for k := range after.LogAbove {
		b.Above[k] += after.LogAbove[k] - before.LogAbove[k]
		b.Below[k] += after.LogBelow[k] - before.LogBelow[k]
	}
}

// share returns a network's share of a number in a stratum, which is made on
// first sight.
func (n *Network) share(number, stratum int) *Share {
	if s := n.brought(number, stratum); s != nil {
		return s
	}
	n.Shares = append(n.Shares, Share{Number: number, Stratum: stratum})
	return &n.Shares[len(n.Shares)-1]
}

// brought returns a network's share, nil where it has none.
func (n *Network) brought(number, stratum int) *Share {
	if n == nil {
		return nil
	}
	for i := range n.Shares {
		if s := &n.Shares[i]; s.Number == number && s.Stratum == stratum {
			return s
		}
	}
	return nil
}

// without returns what was measured less what a network brought; d itself where
// it brought nothing.
func (d *Measured) without(s *Share) *Measured {
	if s == nil {
		return d
	}
	out := *d
	for a := range out.Buckets {
		out.Buckets[a] = subtract(d.Buckets[a], s.Buckets[a])
	}
	if d.Bounded != nil {
		means := *d.Bounded
		for a := range means.Arms {
			for k := range s.Bounded[a].Above {
				means.Arms[a].LogAbove[k] -= s.Bounded[a].Above[k]
				means.Arms[a].LogBelow[k] -= s.Bounded[a].Below[k]
			}
		}
		out.Bounded = &means
	}
	out.Sums.Remove(s.Sums)
	return &out
}

func subtract(all, part sketch.Histogram) sketch.Histogram {
	less := map[uint16]int64{}
	for _, b := range part.Buckets {
		less[b.Index] = b.Count
	}
	var out sketch.Histogram
	for _, b := range all.Buckets {
		if n := b.Count - less[b.Index]; n > 0 {
			out.Buckets = append(out.Buckets, sketch.Bucket{Index: b.Index, Count: n})
		}
	}
	return out
}

// turn begins the numbers of a new stage: what was found so far is kept as
// evidence.
func (t *Test) turn() {
	for i := range t.Numbers {
		n, g := &t.Numbers[i], t.rule(i)
		if g.approximate() {
			n.Harm, n.Safe = t.sharedHarm(i, nil), t.safeOfNumber(i, nil)
		}
		for k := range n.Strata {
			d := &n.Strata[k]
			*d = Measured{Harm: d.harm(&g), Safe: d.safe(&g)}
		}
	}
	for i := range t.Senders.Top {
		t.Senders.Top[i].Shares = nil
	}
}
