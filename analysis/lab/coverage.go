package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"serin.dev/serin/analysis/evalue"
)

// Coverage is the experiment of confidence sequences that are looked at again
// and again: how often the truth is in them at all looks.
type Coverage struct {
	Options
	Alpha float64 // that the truth is ever left out, at most; in (0,0.5]
}

// Check returns all faults together, naming each field, its value and what is
// allowed.
func (c *Coverage) Check() error {
	return errors.Join(c.Options.Check(), checkLevel("alpha", c.Alpha))
}

// CoverageRow is what was found of one sequence.
type CoverageRow struct {
	Sequence string  `json:"sequence"`
	Runs     int     `json:"runs"`
	Looks    int     `json:"looks"` // of each run: after each of the first values, later every sixteenth part more
	Nominal  float64 `json:"nominal"`
	Covered  float64 `json:"covered"` // share of the runs in which the truth was in it at all looks
	Lower    float64 `json:"covered_lower99"`
	Upper    float64 `json:"covered_upper99"`
}

// sequence is one that is tried.
type sequence struct {
	name string
	// begin draws a run. step draws what comes next and reports whether the truth
	// is in the sequence, looking at it only where look is true.
	begin func(alpha float64, rng *rand.Rand) (step func(look bool) bool)
	steps int
}

// sequences have truths that are none of the values that the engine knows of, and
// values that are skewed.
var sequences = []sequence{
	{"rate ratio", ratioRun, 2000},
	{"bounded mean", boundedRun, 3000},
	{"difference of bounded means", boundedDifferenceRun, 2000},
	{"asymptotic difference of means", adjustedRun, 10_000},
	{"distribution band", bandRun, 4000},
	{"quantile", quantileRun, 4000},
	{"quantile shift", shiftRun, 2000},
	{"sample ratio", allocationRun, 20_000},
}

// Run looks at each sequence.
func (c *Coverage) Run(ctx context.Context) (rows []CoverageRow, err error) {
	for _, s := range sequences {
		held := make([]bool, c.Rollouts)
		row := CoverageRow{Sequence: s.name, Runs: c.Rollouts, Nominal: 1 - c.Alpha}
		for n := 1; n <= s.steps; n = nextLook(n) {
			row.Looks++
		}
		err := each(ctx, c.Options, "coverage, "+s.name, func(b *bench, i int) {
			step := s.begin(c.Alpha, b.rng)
			look := 1
			for n := 1; n <= s.steps; n++ {
				if !step(n == look) {
					return
				}
				if n == look {
					look = nextLook(n)
				}
			}
			held[i] = true
		})
		if err != nil {
			return nil, err
		}
		n := 0
		for _, ok := range held {
			if ok {
				n++
			}
		}
		row.Covered = float64(n) / float64(c.Rollouts)
		row.Lower, row.Upper = exact(n, c.Rollouts, 0.99)
		rows = append(rows, row)
	}
	return rows, nil
}

func nextLook(n int) int { return n + max(1, n/16) }

// ratioRun has cells of some 70 baseline and 7 canary sessions, of which 1 % fail,
// on the canary at 2.2 times the odds. A step is a cell.
func ratioRun(alpha float64, rng *rand.Rand) func(bool) bool {
	const ratio, base = 2.2, 0.01
	g := evalue.NewGrid()
	var m evalue.Marks
	odds := ratio * base / (1 - base)
	p := [2]float64{base, odds / (1 + odds)}
	return func(look bool) bool {
		atRisk := [2]int64{65 + rng.Int64N(11), 5 + rng.Int64N(5)}
		var failed [2]int64
		for a, n := range atRisk {
			for range n {
				if rng.Float64() < p[a] {
					failed[a]++
				}
			}
		}
		g.AddBatch(&m, failed[1], failed[0], atRisk[1], atRisk[0])
		if !look {
			return true
		}
		lo, hi := g.Interval(m, alpha)
		return lo <= ratio && ratio <= hi
	}
}

// skewed draws a value in [0,1] with the mean 1/(k+1).
func skewed(rng *rand.Rand, k float64) float64 { return math.Pow(rng.Float64(), k) }

// boundedRun has values in [0,1] with a mean of 1/6.
func boundedRun(alpha float64, rng *rand.Rand) func(bool) bool {
	t := evalue.NewBoundedMeans(1)
	return func(look bool) bool {
		add(t.Add(true, skewed(rng, 5)))
		if !look {
			return true
		}
		lo, hi := t.Interval(true, alpha)
		return lo <= 1./6 && 1./6 <= hi
	}
}

// boundedDifferenceRun has means of 1/6 and 1/5, one in four values the canary's.
func boundedDifferenceRun(alpha float64, rng *rand.Rand) func(bool) bool {
	t := evalue.NewBoundedMeans(1)
	return func(look bool) bool {
		if rng.IntN(4) == 0 {
			add(t.Add(true, skewed(rng, 4)))
		} else {
			add(t.Add(false, skewed(rng, 5)))
		}
		if !look {
			return true
		}
		lo, hi := t.Difference(alpha)
		return lo <= 1./5-1./6 && 1./5-1./6 <= hi
	}
}

// adjustedRun has exponential values, on the canary a fifth higher, of which a
// covariate explains some. Before the burn-in nothing is said, so nothing missed.
func adjustedRun(alpha float64, rng *rand.Rand) func(bool) bool {
	const effect, tuned = 0.2, 5000
	var t evalue.AdjustedMeans
	return func(look bool) bool {
		canary := rng.IntN(2) == 0
		before := rng.ExpFloat64()
		value := before/2 + rng.ExpFloat64()
		if canary {
			value += effect
		}
		add(t.Add(canary, value, before))
		if !look {
			return true
		}
		d, err := t.Difference(alpha, tuned)
		return err != nil || d.Low <= effect && effect <= d.High
	}
}

// buckets is how many buckets values are counted in, with edges 2^(k/4).
const buckets = 48

// bucketOf draws the bucket of a log-normal value.
func bucketOf(rng *rand.Rand) int {
	return min(max(int(math.Floor(20+4*rng.NormFloat64()/math.Ln2)), 0), buckets-8)
}

// chances are those of each bucket that bucketOf draws.
var chances = func() (p [buckets]float64) {
	below := func(edge int) float64 { return 0.5 * math.Erfc(-(float64(edge)-20)*math.Ln2/4/math.Sqrt2) }
	const last = buckets - 8
	for k := range last {
		p[k] = below(k+1) - below(k)
	}
	p[0] += below(0)
	p[last] = 1 - below(last)
	return p
}()

// quantileBucket is the bucket that holds the 75th percentile of the values.
var quantileBucket = func() int {
	sum := 0.0
	for k, p := range chances {
		if sum += p; sum >= 0.75 {
			return k
		}
	}
	panic("BUG: the chances of the buckets sum to less than 1")
}()

// bandRun looks whether the empirical distribution is near to the true one at
// every edge.
func bandRun(alpha float64, rng *rand.Rand) func(bool) bool {
	band := evalue.NewBand(alpha, 1)
	var counts [buckets]int64
	n := int64(0)
	return func(look bool) bool {
		counts[bucketOf(rng)]++
		n++
		if !look {
			return true
		}
		radius, seen, truth := band.Radius(n), 0.0, 0.0
		for k, c := range counts {
			seen += float64(c) / float64(n)
			if truth += chances[k]; math.Abs(seen-truth) > radius {
				return false
			}
		}
		return true
	}
}

func quantileRun(alpha float64, rng *rand.Rand) func(bool) bool {
	q := evalue.NewQuantile(0.75, 1000)
	counts := make([]int64, buckets)
	return func(look bool) bool {
		counts[bucketOf(rng)]++
		if !look {
			return true
		}
		lo, hi := q.Interval(counts, alpha)
		return lo <= quantileBucket && quantileBucket <= hi
	}
}

// shiftRun has the canary's values three buckets higher.
func shiftRun(alpha float64, rng *rand.Rand) func(bool) bool {
	const shift = 3
	q := evalue.NewQuantile(0.75, 1000)
	baseline, canary := make([]int64, buckets), make([]int64, buckets)
	return func(look bool) bool {
		baseline[bucketOf(rng)]++
		canary[bucketOf(rng)+shift]++
		if !look {
			return true
		}
		lo, hi := q.Shift(baseline, canary, alpha)
		return lo <= shift && shift <= hi
	}
}

// allocationRun plans a tenth for the canary, which gets 9.5 %.
func allocationRun(alpha float64, rng *rand.Rand) func(bool) bool {
	const truth = 0.095
	t := evalue.NewAllocation([]float64{0.9, 0.1}, evalue.Concentration)
	return func(look bool) bool {
		arm := 0
		if rng.Float64() < truth {
			arm = 1
		}
		t.Add(arm, 1)
		if !look {
			return true
		}
		lo, hi := t.Share(1, alpha)
		return lo <= truth && truth <= hi
	}
}

// add panics where a sequence does not take a value that was drawn for it.
func add(err error) {
	if err != nil {
		panic(fmt.Sprintf("BUG: a value that was drawn: %v", err))
	}
}
