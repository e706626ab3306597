package sketch

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestHLLError(t *testing.T) {
	// 24 seeds; each size is passed on the way up. The standard error is
	// 1.04/64; small sets are counted better, by the registers still empty.
	const seeds, sigma = 24, 1.04 / 64
	sizes := []int{1, 10, 100, 1000, 1024, 2000, 5000, 10_000, 20_000, 50_000, 200_000}
	squares, sums := make([]float64, len(sizes)), make([]float64, len(sizes))
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var h HLL
		n := 0
		for i, size := range sizes {
			for ; n < size; n++ {
				h.Add(rng.Uint64())
			}
			off := h.Estimate()/float64(size) - 1
			squares[i] += off * off
			sums[i] += off
			// Two of a small set may share a register, which costs one of them.
			if math.Abs(off) > max(4.5*sigma, 1.1/float64(size)) {
				t.Errorf("seed %d: %d distinct are estimated off by %.2f %%", seed, size, 100*off)
			}
		}
	}
	for i, size := range sizes {
		rms, bias := math.Sqrt(squares[i]/seeds), sums[i]/seeds
		t.Logf("%6d distinct: error %.2f %% (root mean square), bias %+.2f %%", size, 100*rms, 100*bias)
		if rms > 1.5*sigma || math.Abs(bias) > 3.5*sigma/math.Sqrt(seeds) {
			t.Errorf("%d distinct: error %.2f %%, bias %.2f %%", size, 100*rms, 100*bias)
		}
	}
}

func TestHLLExtremes(t *testing.T) {
	var h HLL
	if e := h.Estimate(); e != 0 {
		t.Errorf("nothing is estimated %v", e)
	}
	for range 1000 {
		h.Add(0)
	}
	if e := h.Estimate(); math.Abs(e-1) > 0.01 {
		t.Errorf("one identity, often, is estimated %v", e)
	}
	for i := range uint64(registers) {
		h.Add(i << (64 - hllPrecision)) // the highest rank everywhere
	}
	if e := h.Estimate(); !(e > 1e15) {
		t.Errorf("a full sketch is estimated %v", e)
	}
}

// sketchOf returns a sketch of the hashes from..to of one sequence.
func sketchOf(from, to int) *HLL {
	rng := rand.New(rand.NewPCG(7, 7))
	var h HLL
	for i := range to {
		if x := rng.Uint64(); i >= from {
			h.Add(x)
		}
	}
	return &h
}

func TestHLLMergeIsUnion(t *testing.T) {
	for _, c := range []struct {
		name       string
		a, b, c, d int
	}{
		{"sparse and sparse stay sparse", 0, 100, 50, 300},
		{"sparse and sparse get dense", 0, 800, 700, 1600},
		{"sparse into dense", 0, 9000, 8990, 9100},
		{"dense into sparse", 0, 10, 5, 9000},
		{"dense into dense", 0, 5000, 4000, 9000},
		{"nothing into sparse", 0, 10, 10, 10},
	} {
		got, other := sketchOf(c.a, c.b), sketchOf(c.c, c.d)
		before := fmt.Sprint(*other)
		got.Merge(other)
		got.Merge(nil)
		if want := sketchOf(c.a, c.d); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: estimate %v, want %v", c.name, got.Estimate(), want.Estimate())
		}
		if fmt.Sprint(*other) != before {
			t.Errorf("%s: changed the other", c.name)
		}
	}
}

func TestHLLEncoding(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1100, 1200, 1300, 100_000} {
		h := sketchOf(0, n)
		data, err := h.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got HLL
		if err := got.UnmarshalBinary(data); err != nil || !reflect.DeepEqual(got, *h) {
			t.Errorf("%d: decoded to %v, %v", n, got.Estimate(), err)
		}
		// As a field by value of something that gob cannot address.
		var buf bytes.Buffer
		var through struct{ H HLL }
		if err := gob.NewEncoder(&buf).Encode(struct{ H HLL }{*h}); err != nil {
			t.Fatal(err)
		}
		if err := gob.NewDecoder(&buf).Decode(&through); err != nil || !reflect.DeepEqual(through.H, *h) {
			t.Errorf("%d through gob: %v, %v", n, through.H.Estimate(), err)
		}
	}
}

func TestHLLRefusesWhatItDidNotWrite(t *testing.T) {
	dense, err := sketchOf(0, 100_000).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, b byte) []byte {
		data := bytes.Clone(dense)
		data[at] = b
		return data
	}
	for name, data := range map[string][]byte{
		"empty":                  {},
		"version of the future":  {2, 0, 0},
		"no form":                {1},
		"form 2":                 {1, 2},
		"no number of registers": {1, 0},
		"register missing":       {1, 0, 1},
		"rank missing":           {1, 0, 1, 1},
		"rank 0":                 {1, 0, 1, 1, 0},
		"rank over 53":           {1, 0, 1, 1, 54},
		"same register twice":    {1, 0, 2, 1, 1, 0, 1},
		"register past the last": {1, 0, 2, 0x80, 0x20, 1, 1, 1},
		"too many for sparse":    {1, 0, 0x81, 8},
		"number of two forms":    {1, 0, 0x81, 0, 1, 1},
		"bytes too many":         {1, 0, 0, 0},
		"dense cut short":        dense[:len(dense)-1],
		"dense and more":         append(bytes.Clone(dense), 0),
		"dense rank over 53":     change(1000, 54),
		"dense but for sparse":   append([]byte{1, 1}, make([]byte, registers)...),
	} {
		h := sketchOf(0, 3)
		if err := h.UnmarshalBinary(data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(h, sketchOf(0, 3)) {
			t.Errorf("%s: changed the receiver", name)
		}
	}
}

func FuzzHLLUnmarshal(f *testing.F) {
	for _, n := range []int{0, 3, 2000} {
		data, _ := sketchOf(0, n).MarshalBinary()
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var h HLL
		if err := h.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, _ := h.MarshalBinary(); !bytes.Equal(again, data) {
			t.Fatalf("%x was taken and is encoded %x", data, again)
		}
		if e := h.Estimate(); !(e >= 0) {
			t.Fatalf("estimate %v", e)
		}
		h.Add(1)
		h.Merge(&h)
	})
}
