package sketch

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func TestEdgesAreRoots(t *testing.T) {
	// An edge's 16th power is a power of two, and its neighbors' are farther
	// off: so it is the root, correctly rounded, whatever the machine's Exp2.
	for k, m := range mantissas {
		off := func(v float64) *big.Float {
			p := new(big.Float).SetPrec(2000).SetFloat64(1)
			for range perOctave {
				p.Mul(p, big.NewFloat(v))
			}
			p.Sub(p, new(big.Float).SetMantExp(big.NewFloat(1), k))
			return p.Abs(p)
		}
		for _, neighbor := range []float64{math.Nextafter(m, 0), math.Nextafter(m, 3)} {
			if off(neighbor).Cmp(off(m)) < 0 {
				t.Errorf("edge %d is %v, and %v is nearer to the root", k, m, neighbor)
			}
		}
	}
	for i := 1; i < overflow; i++ {
		if !(edge(i) > edge(i-1)) {
			t.Errorf("edge %d is %v after %v", i, edge(i), edge(i-1))
		}
	}
}

func TestCountsAreExactAtEveryEdge(t *testing.T) {
	for i := range overflow {
		e := edge(i)
		h := NewHistogram()
		for _, v := range []float64{math.Nextafter(e, 0), e, math.Nextafter(e, math.Inf(1))} {
			if err := h.Add(v); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := h.CountAtMost(e); n != 2 || err != nil {
			t.Errorf("edge %d: %d at most %v, %v, want 2", i, n, e, err)
		}
		if got := EdgeAtLeast(math.Nextafter(e, 0)); got != e {
			t.Errorf("edge at least just below %v is %v", e, got)
		}
	}
}

func TestHistogramEnds(t *testing.T) {
	h := NewHistogram()
	for _, v := range []float64{0, math.Copysign(0, -1), 1e-300, 5e-324, 1e300, math.Inf(1)} {
		if err := h.Add(v); err != nil {
			t.Errorf("add %v: %v", v, err)
		}
	}
	for _, v := range []float64{-1, math.Copysign(1e-300, -1), math.NaN(), math.Inf(-1)} {
		if h.Add(v) == nil {
			t.Errorf("%v was counted", v)
		}
	}
	if want := []Bucket{{0, 4}, {overflow, 2}}; !slices.Equal(h.Buckets, want) {
		t.Errorf("buckets %v, want %v", h.Buckets, want)
	}
	if lo, hi := h.Quantile(0), h.Quantile(1); lo != 0 || !math.IsInf(hi, 1) {
		t.Errorf("quantiles 0 and 1 are %v and %v", lo, hi)
	}
	if n, err := h.CountAtMost(math.Inf(1)); n != 6 || err != nil {
		t.Errorf("%d at most +Inf, %v", n, err)
	}
	for _, v := range []float64{3, 0, -1, 1e300, math.NaN()} {
		if _, err := h.CountAtMost(v); err == nil {
			t.Errorf("%v is taken for an edge", v)
		}
	}
	for _, q := range []float64{-0.1, 1.1, math.NaN()} {
		if v := h.Quantile(q); !math.IsNaN(v) {
			t.Errorf("quantile %v is %v", q, v)
		}
	}
	if v := NewHistogram().Quantile(0.5); !math.IsNaN(v) {
		t.Errorf("median of nothing is %v", v)
	}
}

// filled returns a histogram and its values, sorted.
func filled(t *testing.T, seed uint64, n int) (*Histogram, []float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	h, values := NewHistogram(), make([]float64, n)
	for i := range values {
		values[i] = math.Exp(7 + 1.5*rng.NormFloat64()) // about as page loads in ms
		if err := h.Add(values[i]); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(values)
	return h, values
}

func TestQuantileError(t *testing.T) {
	for _, n := range []int{1, 2, 10, 1000, 100_000} {
		h, values := filled(t, uint64(n), n)
		for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 1} {
			want := values[max(0, int(math.Ceil(q*float64(n)))-1)]
			if got := h.Quantile(q); math.Abs(got-want) > 0.022*want {
				t.Errorf("n %d: quantile %v is %v, want %v", n, q, got, want)
			}
		}
	}
}

func TestHistogramMerge(t *testing.T) {
	a, _ := filled(t, 1, 500)
	b, _ := filled(t, 2, 700)
	ab, ba := NewHistogram(), NewHistogram()
	ab.Merge(a)
	ab.Merge(b)
	ab.Merge(nil)
	ba.Merge(b)
	ba.Merge(a)
	if !reflect.DeepEqual(ab, ba) || ab.Count() != 1200 || a.Count() != 500 {
		t.Errorf("merged %d and %d of 1200 values; %d of 500 kept", ab.Count(), ba.Count(), a.Count())
	}
}

func TestHistogramEncoding(t *testing.T) {
	for _, n := range []int{0, 1, 10_000} {
		h, _ := filled(t, 3, n)
		data, err := h.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Histogram
		if err := got.UnmarshalBinary(data); err != nil || !reflect.DeepEqual(got, *h) {
			t.Errorf("%d values: decoded %v, %v", n, got, err)
		}
		var buf bytes.Buffer
		var through struct{ H *Histogram }
		if err := gob.NewEncoder(&buf).Encode(struct{ H *Histogram }{h}); err != nil {
			t.Fatal(err)
		}
		if err := gob.NewDecoder(&buf).Decode(&through); err != nil || through.H == nil || through.H.Count() != int64(n) {
			t.Errorf("%d values through gob: %v, %v", n, through.H, err)
		}
	}
}

func TestHistogramRefusesWhatItDidNotWrite(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty":                   {},
		"version 0":               {0, 0},
		"version of the future":   {2, 0},
		"no count of buckets":     {1},
		"bucket missing":          {1, 1},
		"count missing":           {1, 1, 1},
		"bytes too many":          {1, 0, 0},
		"empty bucket":            {1, 1, 1, 0},
		"same bucket twice":       {1, 2, 1, 1, 0, 1},
		"more buckets than exist": {1, 0x83, 5},
		"index past the last":     {1, 2, 0x82, 5, 1, 1, 1},
		"number of two forms":     {1, 1, 0x81, 0, 1},
		"number over 64 bits":     {1, 1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2},
		"count over 2^53":         {1, 1, 1, 129, 128, 128, 128, 128, 128, 128, 16},
		"total over 2^53":         {1, 2, 1, 128, 128, 128, 128, 128, 128, 128, 16, 1, 1},
	} {
		h, _ := filled(t, 4, 3)
		before := fmt.Sprint(h)
		if err := h.UnmarshalBinary(data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if fmt.Sprint(h) != before {
			t.Errorf("%s: changed the receiver", name)
		}
	}
}

func FuzzHistogramUnmarshal(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var h Histogram
		if err := h.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, _ := h.MarshalBinary(); !bytes.Equal(again, data) {
			t.Fatalf("%x was taken and is encoded %x", data, again)
		}
		if q := h.Quantile(0.5); h.Count() > 0 && !(q >= 0) {
			t.Fatalf("median %v of %d values", q, h.Count())
		}
		h.Merge(&h)
	})
}
