package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestMiddle(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 1}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 3, 2, 1}, 2}} {
		before := slices.Clone(c.of)
		if got := middle(c.of); got != c.want || !slices.Equal(c.of, before) {
			t.Errorf("middle of %v is %v, want %v", before, got, c.want)
		}
	}
}

// TestRatiosNameContenders fails where a ratio is of something that is not
// measured.
func TestRatiosNameContenders(t *testing.T) {
	has := func(name string) bool {
		return slices.ContainsFunc(contenders, func(c contender) bool { return c.name == name })
	}
	for _, c := range compared {
		if !has(c.of) || !has(c.to) {
			t.Errorf("%q : %q is not measured", c.of, c.to)
		}
	}
	if contenders[0].name != nativeName {
		t.Error("full load is that of the first contender, which must be native")
	}
}

func TestMetric(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("a_total 3\na_total_more 100\nb_total{class=\"x\",tenant=\"t\"} 4\nb_total{class=\"y\"} 1.5e1\n"))
	}))
	defer page.Close()
	s := &server{address: strings.TrimPrefix(page.URL, "http://")}
	for _, c := range []struct {
		name  string
		parts []string
		want  float64
	}{{"a_total", nil, 3}, {"b_total", nil, 19}, {"b_total", []string{`class="x"`}, 4}, {"b_total", []string{`class="x"`, `tenant="u"`}, 0}, {"c_total", nil, 0}} {
		got, err := s.metric(t.Context(), c.name, c.parts...)
		if err != nil || got != c.want {
			t.Errorf("%s %v: %v, %v, want %v", c.name, c.parts, got, err, c.want)
		}
	}
}
