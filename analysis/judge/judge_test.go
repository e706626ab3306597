package judge

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestPublishedByR: W and the two-sided p-value of R's wilcox.test with ties,
// that is by the normal approximation with both corrections.
func TestPublishedByR(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		source string
		x, y   []float64
		w, p   float64
		digit  float64 // half a unit of the last one printed
	}{
		{"endmemo.com/r/wilcoxon.php, first example",
			[]float64{1, 5, 9, 24, 56, 21, 3, 7, 21, 4}, []float64{12, 15, 5, 9, 9, 14, 56, 22, 3, 7, 32, 5}, 51.5, 0.5966, 5e-5},
		{"endmemo.com/r/wilcoxon.php, second example",
			[]float64{1, 5, 9, 24, 56, 21, 3, 7, 21, 4}, []float64{1233, 4356, 987, 39999, 1111, 200000}, 0, 0.001364, 5e-7},
		{"R, help(wilcox.test): Ozone ~ Month of airquality, May and August",
			[]float64{41, 36, 12, 18, nan, 28, 23, 19, 8, nan, 7, 16, 11, 14, 18, 14, 34, 6, 30, 11, 1, 11, 4, 32, nan, nan, nan, 23, 45, 115, 37},
			[]float64{39, 9, 16, 78, 35, 66, 122, 89, 110, nan, nan, 44, 28, 65, nan, 22, 59, 23, 31, 44, 21, 9, nan, 45, 168, 73, nan, 76, 118, 84, 85},
			127.5, 0.0001208, 5e-8},
	} {
		keep := func(v []float64) []float64 { return slices.DeleteFunc(slices.Clone(v), math.IsNaN) }
		r := NewRankSum(keep(c.x), keep(c.y))
		above, equal := r.pairs(0, 0)
		if w := float64(above) + float64(equal)/2; w != c.w {
			t.Errorf("%s: W = %v, published %v", c.source, w, c.w)
		}
		if p := math.Erfc(math.Abs(r.Score(0)) / math.Sqrt2); math.Abs(p-c.p) > c.digit {
			t.Errorf("%s: p-value %.7f, published %v", c.source, p, c.p)
		}
	}
}

// TestKayenta: what Kayenta's own tests expect (spinnaker/kayenta,
// MannWhitneySuite.scala and ClassifierSuite.scala, at commit a69573be).
func TestKayenta(t *testing.T) {
	r := NewRankSum([]float64{10, 20, 30, 40}, []float64{1, 2, 3, 4})
	if lo, hi := r.Interval(0.95); lo != 6 || hi != 39 || r.Estimate() != 22.5 {
		t.Errorf("interval %v to %v, estimate %v; Kayenta has 6 to 39 and 22.5", lo, hi, r.Estimate())
	}
	if z := normalQuantile(0.98); math.Abs(z-2.326348) > 5e-7 {
		t.Errorf("quantile %v, Kayenta has 2.326348", z)
	}
	settings := func(change func(*Settings)) Settings {
		s := Defaults(MeanRatio)
		s.Tolerance, s.Confidence = 0.1, 0.95
		if change != nil {
			change(&s)
		}
		return s
	}
	high, base := []float64{20, 22, 21, 25, 30}, []float64{1, 2.2, 1.1, 2.5, 3}
	constant := func(v float64) []float64 { return []float64{v, v, v, v, v} }
	for _, c := range []struct {
		name             string
		canary, baseline []float64
		settings         Settings
		want             Label
		critical         bool
	}{
		{"mean ratio: high", high, base, settings(func(s *Settings) { s.AllowedDecrease, s.AllowedIncrease = 0.8, 1.2 }), High, false},
		{"mean ratio: pass", []float64{10, 12.2, 10.1, 12.5, 23}, []float64{20, 22, 21, 25, 30}, settings(func(s *Settings) { s.AllowedDecrease = 0.5 }), Pass, false},
		{"critical high", high, base, settings(func(s *Settings) { s.Critical, s.CriticalIncrease = true, 1.2 }), High, true},
		{"critical low", []float64{2, 2, 2, 2, 3}, []float64{10, 20.2, 10.1, 20.5, 30}, settings(func(s *Settings) { s.Critical, s.CriticalDecrease = true, 1.2 }), Low, true},
		{"high, not critical", high, base, settings(func(s *Settings) { s.Critical, s.AllowedIncrease, s.CriticalIncrease = true, 5, 13 }), High, false},
		{"critical metric, allowed", high, base, settings(func(s *Settings) { s.Critical, s.AllowedIncrease, s.CriticalIncrease = true, 13, 15 }), Pass, false},
		{"critical by default thresholds", high, base, settings(func(s *Settings) { s.Critical = true }), High, true},
		{"all tied", []float64{1, 1, 1}, []float64{1, 1}, settings(func(s *Settings) { s.Direction = Decrease }), Pass, false},
		{"the same in another order", []float64{1, 2, 3, 4, 5}, []float64{5, 4, 3, 2, 1}, settings(nil), Pass, false},
		{"one zero", []float64{0, 1, 1, 1, 1}, constant(1), settings(func(s *Settings) { s.Direction = Decrease }), Pass, false},
		{"no canary data", nil, []float64{1, 2, 3, 4, 5}, settings(nil), Nodata, false},
		{"no canary data, critical", nil, []float64{1, 2, 3, 4, 5}, settings(func(s *Settings) { s.Critical = true }), Nodata, true},
		{"no canary data, replaced", nil, []float64{1, 2, 3, 4, 5}, settings(func(s *Settings) { s.NaN = Replace }), Pass, false},
		{"no canary data where there must be", nil, []float64{1}, settings(func(s *Settings) { s.MustHaveData = true }), NodataFailMetric, false},
		{"mostly tied", []float64{1, 1, 1, 1, 10}, constant(1), settings(nil), Pass, false},
		{"two constants", constant(10), constant(1), settings(nil), High, false},
		{"two constants, one of 0", constant(10), constant(0), settings(nil), High, false},
		{"zero mean, high", []float64{54.9, 54.5, 55.1, 55.6, 57.4}, constant(0), settings(func(s *Settings) { s.AllowedDecrease, s.AllowedIncrease = 0.8, 1.2 }), High, false},
		{"zero mean, low", constant(0), []float64{54.9, 54.5, 55.1, 55.6, 57.4}, settings(func(s *Settings) { s.AllowedDecrease, s.AllowedIncrease = 0.8, 1.2 }), Low, false},
		{"zero mean, nothing", constant(0), constant(0), settings(nil), Pass, false},
		{"increase of what only decreases matter", high, base, settings(func(s *Settings) { s.Direction = Decrease }), Pass, false},
		{"decrease of what only increases matter", base, high, settings(func(s *Settings) { s.Direction = Increase }), Pass, false},
	} {
		for _, unit := range []float64{1, 1e-9, 3e-7, 1e-3, 7e4, 1e9} {
			scale := func(v []float64) (out []float64) {
				for _, x := range v {
					out = append(out, x*unit)
				}
				return out
			}
			got, err := Judge(scale(c.canary), scale(c.baseline), c.settings)
			if err != nil || got.Classification != c.want || got.Critical != c.critical {
				t.Errorf("%s, times %v: %+v, %v; Kayenta has %s, critical %v", c.name, unit, got, err, c.want, c.critical)
			}
		}
	}
}

// direct computes the score at a shift from its definition, by midranks.
func direct(canary, baseline []float64, d float64) float64 {
	var all []float64
	for _, c := range canary {
		all = append(all, c-d)
	}
	all = append(all, baseline...)
	m, n, sum, tied := float64(len(canary)), float64(len(baseline)), 0.0, 0.0
	for i, v := range all {
		less, same := 0.0, 0.0
		for _, w := range all {
			if w < v {
				less++
			} else if w == v {
				same++
			}
		}
		if i < len(canary) {
			sum += less + (same+1)/2
		}
		tied += same*same - 1
	}
	u := sum - m*(m+1)/2 - m*n/2
	switch {
	case u > 0:
		u -= 0.5
	case u < 0:
		u += 0.5
	}
	v := m * n / 12 * (m + n + 1 - tied/((m+n)*(m+n-1)))
	if v <= 0 {
		return 0
	}
	return u / math.Sqrt(v)
}

// TestRankSumAgainstDefinition on small samples of few values, full of ties.
func TestRankSumAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 400 {
		draw := func() (v []float64) {
			for range 2 + rng.IntN(12) {
				v = append(v, float64(rng.IntN(9)))
			}
			return v
		}
		x, y := draw(), draw()
		r := NewRankSum(x, y)
		if r.broken {
			continue
		}
		var differences []float64
		for _, a := range x {
			for _, b := range y {
				differences = append(differences, a-b)
			}
		}
		slices.Sort(differences)
		for d := -10.0; d <= 10; d += 0.5 {
			if got, want := r.Score(d), direct(x, y, d); math.Abs(got-want) > 1e-12 {
				t.Fatalf("%v and %v at %v: score %v, want %v", x, y, d, got, want)
			}
		}
		k := len(differences)
		if want := (differences[(k-1)/2] + differences[k/2]) / 2; r.Estimate() != want {
			t.Fatalf("%v and %v: estimate %v, want %v", x, y, r.Estimate(), want)
		}
		if u, want := r.CLES(), 0.0; true {
			for _, d := range differences {
				if d > 0 {
					want++
				} else if d == 0 {
					want += 0.5
				}
			}
			if math.Abs(u-want/float64(k)) > 1e-12 {
				t.Fatalf("%v and %v: CLES %v, want %v", x, y, u, want/float64(k))
			}
		}
		// The interval by trying all differences.
		lo, hi := r.Interval(0.9)
		z := normalQuantile(0.9)
		at := func(q float64) float64 {
			for _, d := range differences {
				if direct(x, y, d+0.25) <= q {
					return d
				}
			}
			return differences[k-1]
		}
		wantLo := at(z)
		if direct(x, y, differences[0]-0.25) <= z {
			wantLo = differences[0]
		}
		if lo != wantLo || hi != at(-z) {
			t.Fatalf("%v and %v: interval %v to %v, want %v to %v", x, y, lo, hi, wantLo, at(-z))
		}
	}
}

// TestScaleInvariance: a decision does not depend on the unit, and shifts are in
// it; with values mostly 0, as crash ratios are, and with any.
func TestScaleInvariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	labels := map[Label]int{}
	for i := range 75 {
		draw := func(n int, factor float64) (v []float64) {
			for range n {
				x := factor * float64(rng.IntN(40)) / 10
				if i%2 == 0 && rng.Float64() < 0.6/factor {
					x = 0
				}
				v = append(v, x)
			}
			return v
		}
		canary, baseline := draw(60, []float64{1, 1.5, 0.5}[i%3]), draw(50, 1)
		s := Defaults([]Effect{MeanRatio, CLES}[i%2])
		want, err := Judge(canary, baseline, s)
		if err != nil {
			t.Fatal(err)
		}
		labels[want.Classification]++
		for range 3 {
			unit := math.Pow(10, 18*rng.Float64()-9)
			scale := func(v []float64) (out []float64) {
				for _, x := range v {
					out = append(out, x*unit)
				}
				return out
			}
			got, err := Judge(scale(canary), scale(baseline), s)
			if err != nil || got.Classification != want.Classification {
				t.Fatalf("times %v: %+v, %v; want %+v", unit, got, err, want)
			}
			for _, c := range [][2]float64{{got.Lower, want.Lower}, {got.Upper, want.Upper}, {got.Estimate, want.Estimate}} {
				if math.Abs(c[0]/unit-c[1]) > 1e-9 {
					t.Fatalf("times %v: %+v, want %+v", unit, got, want)
				}
			}
			if math.Abs(got.Effect-want.Effect) > 1e-9 {
				t.Fatalf("times %v: effect %v, want %v", unit, got.Effect, want.Effect)
			}
		}
	}
	if labels[High] < 5 || labels[Low] < 5 || labels[Pass] < 5 {
		t.Errorf("the cases are one-sided: %v", labels)
	}
}

func TestRefusals(t *testing.T) {
	bad := Settings{Tolerance: -1, Confidence: 98, Direction: "up", NaN: "skip", Effect: "cohen", AllowedIncrease: math.NaN()}
	err := bad.Check()
	for _, field := range []string{"tolerance: -1", "confidence: 98", `direction: "up"`, `nan: "skip"`, `effect-size: "cohen"`, "allowed-increase: NaN"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("want a fault with %q in %v", field, err)
		}
	}
	if _, err := Judge([]float64{1, math.Inf(1)}, []float64{1}, Defaults(CLES)); err == nil || !strings.Contains(err.Error(), "value 2 of the canary") {
		t.Errorf("infinity: %v", err)
	}
	got, err := Judge([]float64{math.NaN(), 5}, []float64{5, math.NaN(), math.NaN()}, Defaults(CLES))
	if err != nil || got.Classification != Pass || got.Reason == "" {
		t.Errorf("NaN removed: %+v, %v", got, err)
	}
}

// TestTooFewValues has samples that do not overlap, just too small and just large
// enough for the confidence of 0.98.
func TestTooFewValues(t *testing.T) {
	for _, c := range []struct {
		values int
		want   Label
	}{{4, Pass}, {5, High}} {
		var canary, baseline []float64
		for i := range c.values {
			canary, baseline = append(canary, 100+float64(i)), append(baseline, 1+float64(i))
		}
		got, err := Judge(canary, baseline, Defaults(CLES))
		if err != nil || got.Classification != c.want || strings.Contains(got.Reason, "too few") != (c.want == Pass) {
			t.Errorf("%d values a side: %+v, %v; want %s", c.values, got, err, c.want)
		}
	}
}

// TestFalseAlarms: the test is of fixed size, and one look keeps it.
func TestFalseAlarms(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	s := Defaults(CLES)
	s.Tolerance = 0
	alarms := 0
	const runs = 800
	for range runs {
		var x, y []float64
		for range 30 {
			x, y = append(x, rng.ExpFloat64()), append(y, rng.ExpFloat64())
		}
		r, err := Judge(x, y, s)
		if err != nil {
			t.Fatal(err)
		}
		if r.Classification != Pass {
			alarms++
		}
	}
	// 1 - 0.98, within 4 standard errors.
	if rate := float64(alarms) / runs; math.Abs(rate-0.02) > 4*math.Sqrt(0.02*0.98/runs) {
		t.Errorf("a share of %v is called at confidence 0.98", rate)
	}
}

// TestUnequalArms measures what docs/statistics.md says of the judge at a canary
// of 10 %, with its default settings, on per-minute failure ratios: 120 minutes
// of 400 sessions, of which 0.5 % fail.
func TestUnequalArms(t *testing.T) {
	share := func(seed uint64, ratio float64, s Settings) map[Label]float64 {
		labels := map[Label]float64{}
		const runs = 100
		for i := range runs {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			failing := func(n int, p float64) float64 {
				k := 0
				for range n {
					if rng.Float64() < p {
						k++
					}
				}
				return float64(k) / float64(n)
			}
			var canary, baseline []float64
			for range 120 {
				canary = append(canary, failing(40, 0.005*ratio))
				baseline = append(baseline, failing(360, 0.005))
			}
			got, err := Judge(canary, baseline, s)
			if err != nil {
				t.Fatal(err)
			}
			labels[got.Classification] += 1. / runs
		}
		return labels
	}
	// By default a decrease counts where the ratio of means is at most 1, which
	// is half of the time; without that filter it is nearly always.
	open := Defaults(MeanRatio)
	open.AllowedDecrease = 1000
	same, unfiltered, doubled := share(1, 1, Defaults(MeanRatio)), share(1, 1, open), share(2, 2, Defaults(MeanRatio))
	t.Logf("no difference: Low %.2f, without the filter of effect sizes %.2f; doubled: High %.2f", same[Low], unfiltered[Low], doubled[High])
	if same[Low] < 0.4 || unfiltered[Low] < 0.9 || doubled[High] > 0.1 {
		t.Error("what is said of unequal arms is not so")
	}
}

func BenchmarkJudge(b *testing.B) {
	rng := rand.New(rand.NewPCG(4, 1))
	var x, y []float64
	for range 1000 {
		x, y = append(x, rng.ExpFloat64()), append(y, rng.ExpFloat64())
	}
	for b.Loop() {
		if _, err := Judge(x, y, Defaults(MeanRatio)); err != nil {
			b.Fatal(err)
		}
	}
}
