package slo

import (
	"math"
	"math/bits"
)

// sliceCounts counts slices of time. All of it are whole numbers, so that the slices of
// a window are those up to its end less those up to its start, to the last bit.
type sliceCounts struct {
	total, bad int64
	seen       int64  // those with units
	missing    int64  // sum over those of the share of bad units, in shareUnit
	failed     Counts // units of the bad ones
}

// shareUnit is what shares of slices are summed in: the sum over each minute of a year
// fits 63 bits.
const shareUnit = 1 << 43

func (c sliceCounts) minus(d sliceCounts) sliceCounts {
	return sliceCounts{c.total - d.total, c.bad - d.bad, c.seen - d.seen, c.missing - d.missing, c.failed.minus(d.failed)}
}

// shares returns the sum over the slices with units of the share of bad ones.
func (c sliceCounts) shares() float64 { return float64(c.missing) / shareUnit }

// every is how many slices are summed up at once: a sum over any window looks at twice
// as many slices at most.
const every = 16

// sliceSums are the sums of a group's slices, kept from evaluation to evaluation: those
// of a minute over 28 days are 40,320. They are derived from the group's series, and made
// again from the first minute in which that was changed.
type sliceSums struct {
	target float64 // of the slices, and their length in minutes; 0: there are none
	step   int32
	at     int32 // where the first one that is summed begins
	sums   []sliceCounts
	// sums[k] less sums[0] is of the k*every slices from at on.
}

// sliced counts the slices of step minutes, one of which begins at phase, that lie
// within [from, to).
func (g *Group) sliced(o *Objective, step, phase, from, to int32) sliceCounts {
	from += mod(phase-from, step)
	to -= mod(to-from, step)
	if to <= from {
		return sliceCounts{}
	}
	s := &g.slices
	s.fit(g, o.SliceTarget, step, from)
	// The last block is summed up when it is over.
	for end := s.at + int32(len(s.sums))*every*step; end <= to; end += every * step {
		c := s.sums[len(s.sums)-1]
		c.count(&g.Units, s.target, step, end-every*step, end)
		s.sums = append(s.sums, c)
	}
	return s.upTo(g, to).minus(s.upTo(g, from))
}

// fit makes what is kept that of slices of a target and a length from a minute, or
// earlier, on, and leaves out what was changed since.
func (s *sliceSums) fit(g *Group, target float64, step, from int32) {
	block := every * step
	if s.target != target || s.step != step || mod(s.at-from, step) != 0 || from < s.at {
		*s = sliceSums{target: target, step: step, at: from, sums: append(s.sums[:0], sliceCounts{})}
	}
	if past := int((min(from, g.Units.Cut) - s.at) / block); past > len(s.sums)/8+every {
		// The series has forgotten the minutes.
		past = min(past, len(s.sums)-1)
		s.sums = append(s.sums[:0], s.sums[past:]...)
		s.at += int32(past) * block
	}
	if changed := g.Units.changed; changed < math.MaxInt32 {
		if whole := max(int(changed)-int(s.at), 0) / int(block); whole+1 < len(s.sums) {
			s.sums = s.sums[:whole+1]
		}
		g.Units.changed = math.MaxInt32
	}
}

// upTo returns the sums up to the start of a slice.
func (s *sliceSums) upTo(g *Group, to int32) sliceCounts {
	k := min((to-s.at)/(every*s.step), int32(len(s.sums)-1))
	c := s.sums[k]
	c.count(&g.Units, s.target, s.step, s.at+k*every*s.step, to)
	return c
}

// count adds the slices of step minutes in [from, to), which are whole ones.
func (c *sliceCounts) count(s *Series, target float64, step, from, to int32) {
	last := s.upTo(from)
	for at := from; at < to; at += step {
		until := s.upTo(at + step)
		units := until.minus(last)
		last = until
		c.total++
		if units.Total <= 0 {
			continue
		}
		c.seen++
		share := float64(units.Bad) / float64(units.Total)
		c.missing += int64(math.Round(share * shareUnit))
		if 1-share < target {
			c.bad++
			c.failed = c.failed.plus(units)
		}
	}
}

// sliceShares are the slices of a window as evidence on how much of each is bad.
type sliceShares struct {
	seen int64
	sum  float64 // of the shares of bad units, with what one client adds bounded
	by   map[int64]int64
	// by says how many slices there are by their units, rounded down to four bits.
}

// add takes in a slice.
func (e *sliceShares) add(c Counts) {
	n := c.Total
	if drop := bits.Len64(uint64(n)) - 4; drop > 0 {
		n = n >> drop << drop
	}
	e.by[n]++
	e.seen++
	e.sum += float64(min(c.Capped, c.Total)) / float64(c.Total)
}

// surprise returns a lower bound of -log P[the sum of shares is as large], where each
// unit of each slice is bad with probability p or less, whatever the slices' units are:
// Chernoff's, sup over x of x sum - sum over slices of n log(1 - p + p exp(x/n)). (The
// last term falls as n grows, so that units may be rounded down.)
func (e *sliceShares) surprise(p float64) float64 {
	if e.sum <= p*float64(e.seen) {
		return 0
	}
	odds, none := math.Log(p/(1-p)), math.Log1p(-p)
	// The bound and its slope, which falls in x.
	at := func(x float64) (bound, slope float64) {
		bound, slope = x*e.sum, e.sum
		for n, slices := range e.by {
			y := odds + x/float64(n) // the log odds of being bad, tilted
			bound -= float64(slices) * float64(n) * (none + max(y, 0) + math.Log1p(math.Exp(-math.Abs(y))))
			slope -= float64(slices) / (1 + math.Exp(-y))
		}
		return bound, slope
	}
	lo, hi := 0.0, 1.0
	for range 64 {
		if _, slope := at(hi); slope <= 0 {
			break
		}
		lo, hi = hi, 2*hi
	}
	for range 40 {
		mid := (lo + hi) / 2
		if _, slope := at(mid); slope > 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	bound, _ := at(lo)
	return max(bound, 0)
}

// evidentShares reports whether the shares of the slices in [from, to) are evidence by
// themselves: slices of few units that are bad are little of all units, and weigh as much
// as others in a budget of RatioTimeslices.
func (g *Group) evidentShares(o *Objective, step, phase, from, to int32) bool {
	e := sliceShares{by: map[int64]int64{}}
	from += mod(phase-from, step)
	last := g.Units.upTo(from)
	for at := from; at+step <= to; at += step {
		until := g.Units.upTo(at + step)
		if c := until.minus(last); c.Total > 0 {
			e.add(c)
		}
		last = until
	}
	return e.surprise(min(o.unitBudget(), mostNull)) > -math.Log(evidenceAlpha)
}
