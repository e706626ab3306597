package slo

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// heavyNetworks is how many networks are told apart, of those that send most of a
// rollout's baseline and of those from which its canary fails most. One that is not among them has
// at most one part in heavyNetworks of either.
const heavyNetworks = 64

// Spender is a rollout whose spending of the budget is bounded, with the units of the
// networks that may have made it: good units on the baseline and bad ones on the
// canary both make an excess. It is kept in checkpoints.
type Spender struct {
	ID               string
	Senders, Failers []*Heavy

	rollout Rollout
	arms    []arm // of the book's cohorts
}

type arm int8

const (
	unlooked arm = iota
	neither
	baseline
	onCanary
)

// Heavy is one network, by the keyed hash of its prefix, with its units since it was
// first among the heavy ones.
type Heavy struct {
	Prefix  string
	Hash    uint32
	Count   int64   // what it is ranked by, or more
	Tallies []Tally // sorted by hour and cohort
}

// Tally counts a network's units of one cohort in one hour.
type Tally struct {
	Hour, Cohort int32 // Hour: its first minute
	Total, Bad   int64
}

// Watch sets the rollouts whose spending is bounded. What is known of those that were
// watched before is kept, of others it is forgotten.
func (b *Book) Watch(rollouts []Rollout) {
	var all []*Spender
	for _, r := range rollouts {
		s := &Spender{ID: r.ID}
		if i := slices.IndexFunc(b.Spenders, func(s *Spender) bool { return s.ID == r.ID }); i >= 0 {
			s = b.Spenders[i]
		}
		s.rollout, s.arms = r, nil
		all = append(all, s)
	}
	b.Spenders = all
}

// hashNetwork is what a unit keeps of its network.
func hashNetwork(prefix string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(prefix))
	return h.Sum32()
}

// side returns the arm of a cohort; neither for a minute before the rollout began.
func (s *Spender) side(b *Book, cohort int, at int32) arm {
	if at < minuteOf(s.rollout.Since) {
		return neither
	}
	if len(s.arms) < len(b.Cohorts) {
		s.arms = append(s.arms, make([]arm, len(b.Cohorts)-len(s.arms))...)
	}
	if s.arms[cohort] == unlooked {
		c := b.Cohorts[cohort]
		canary, ok := s.rollout.Arm(batch.ParseArms(c.Arms), event.Release(c.Release))
		switch {
		case !ok:
			s.arms[cohort] = neither
		case canary:
			s.arms[cohort] = onCanary
		default:
			s.arms[cohort] = baseline
		}
	}
	return s.arms[cohort]
}

// came counts a unit for its network.
func (s *Spender) came(b *Book, cohort int, at int32, prefix string, bad bool) {
	side := s.side(b, cohort, at)
	if side == neither {
		return
	}
	hash := hashNetwork(prefix)
	switch {
	case side == baseline:
		s.Senders = rank(s.Senders, prefix, hash)
	case bad:
		s.Failers = rank(s.Failers, prefix, hash)
	}
	for _, list := range [...][]*Heavy{s.Senders, s.Failers} {
		if h := heavy(list, hash); h != nil {
			t := h.tally(cohort, at)
			t.Total++
			if bad {
				t.Bad++
			}
		}
	}
}

// left takes away a good unit that is counted anew where it failed.
func (s *Spender) left(b *Book, cohort int, at int32, hash uint32) {
	if s.side(b, cohort, at) == neither {
		return
	}
	for _, list := range [...][]*Heavy{s.Senders, s.Failers} {
		if h := heavy(list, hash); h != nil {
			// It may have come before its network was among the heavy ones.
			if t := h.tally(cohort, at); t.Total > t.Bad {
				t.Total--
			}
		}
	}
}

func heavy(list []*Heavy, hash uint32) *Heavy {
	for _, h := range list {
		if h.Hash == hash {
			return h
		}
	}
	return nil
}

// rank counts one for a network: the space-saving sketch of Metwally, Agrawal and El
// Abbadi (2005).
func rank(list []*Heavy, prefix string, hash uint32) []*Heavy {
	h := heavy(list, hash)
	switch {
	case h != nil:
	case len(list) < heavyNetworks:
		h = &Heavy{Prefix: prefix, Hash: hash}
		list = append(list, h)
	default:
		h = slices.MinFunc(list, func(a, b *Heavy) int { return cmp.Compare(a.Count, b.Count) })
		*h = Heavy{Prefix: prefix, Hash: hash, Count: h.Count}
	}
	h.Count++
	return list
}

func (h *Heavy) tally(cohort int, at int32) *Tally {
	want := Tally{Hour: at - mod(at, 60), Cohort: int32(cohort)}
	i, ok := slices.BinarySearchFunc(h.Tallies, want, func(a, b Tally) int {
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Cohort, b.Cohort))
	})
	if !ok {
		h.Tallies = slices.Insert(h.Tallies, i, want)
	}
	return &h.Tallies[i]
}

// alone returns the network without which the lower end of the excess is least, and
// that end; nil where no network is known.
func (s *Spender) alone(b *Book, own, control map[cell]count, with *excess, alpha float64) (least *verdict.Alone) {
	p, p0 := pooled(own), pooled(control)
	lowest := math.Inf(1)
	look := func(h *Heavy) {
		one := &verdict.Alone{Prefix: h.Prefix, Lo: verdict.Unknown}
		ownLess, controlLess := map[cell]count{}, map[cell]count{}
		var touched []cell
		for _, t := range h.Tallies {
			c := b.Cohorts[t.Cohort]
			at := cell{t.Hour, c.Stratum, s.rollout.rest(batch.ParseArms(c.Arms), c.Release)}
			less := controlLess
			if s.side(b, int(t.Cohort), math.MaxInt32) == onCanary {
				less = ownLess
				one.Bad += t.Bad
				one.Canary += t.Total
			} else {
				one.Baseline += t.Total
			}
			if !slices.Contains(touched, at) {
				touched = append(touched, at)
			}
			put(less, at, &Hour{Total: t.Total, Bad: t.Bad})
		}
		e := *with
		for _, at := range touched {
			if own[at].n == 0 || control[at].n == 0 {
				continue // it was not compared
			}
			var was excess
			was.add(own[at], control[at], p, p0)
			e.sum -= was.sum
			e.variance -= was.variance
			e.compared -= was.compared
			if o, c := own[at].less(ownLess[at]), control[at].less(controlLess[at]); o.n > 0 && c.n > 0 {
				e.add(o, c, p, p0)
			}
		}
		lo := math.Inf(-1) // nothing is left to compare
		if e.compared > 0 {
			lo = e.sum - e.half(alpha)
			one.Lo = verdict.Bound(lo)
		}
		if least == nil || lo < lowest {
			least, lowest = one, lo
		}
	}
	for _, h := range s.Failers {
		look(h)
	}
	for _, h := range s.Senders {
		look(h)
	}
	return least
}

// less leaves out units, of which there may be no more than all.
func (c count) less(of count) count {
	n, k := max(c.n-of.n, 0), max(c.k-of.k, 0)
	return count{n, min(n, k)}
}

// half returns the half-width of the confidence sequence at a level, one-sided.
func (e *excess) half(alpha float64) float64 {
	v := max(e.variance, 0)
	return math.Sqrt(v) * evalue.MixtureRadius(v, spendTuned, 2*alpha)
}
