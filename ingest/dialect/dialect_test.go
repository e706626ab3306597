package dialect

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The short way to a URL's host and path finds what net/url does.
func TestSplit(t *testing.T) {
	parsed := func(raw string) (host, path string) {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Host == "":
			return "", raw
		case u.Path == "":
			return u.Host, "/"
		}
		return u.Host, u.Path
	}
	parts := []string{"http", "https", "ftp", "://", ":", "/", "//", "shop.example", "user@", ":8443", "[::1]", "a", "b.js", "%20", "%zz", " ", "é", "\n", "..", "-", "_", "~", "+", ",", "=", "\\", "<", "{id}", ";x", "*"}
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		var sb strings.Builder
		if r.IntN(3) > 0 {
			sb.WriteString("https://shop.example"[:8+r.IntN(13)])
		}
		for range r.IntN(7) {
			sb.WriteString(parts[r.IntN(len(parts))])
		}
		raw := sb.String()
		host, path := split(raw)
		if wantHost, wantPath := parsed(raw); host != wantHost || path != wantPath {
			t.Fatalf("%q: host %q, path %q; want %q, %q", raw, host, path, wantHost, wantPath)
		}
	}
}

// The short way to a date finds what package time does.
func TestShortDate(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	short := 0
	for range 200_000 {
		at := time.UnixMilli(r.Int64N(253402300799_999)).UTC() // until the year 9999
		text := []byte(at.Format("2006-01-02T15:04:05.000Z"))
		if r.IntN(2) == 0 {
			text[r.IntN(len(text))] = "0123456789-:.TZ +"[r.IntN(17)]
		}
		ms, ok := shortDate(text)
		if !ok {
			continue
		}
		short++
		if want, err := time.Parse(time.RFC3339Nano, string(text)); err != nil || want.UnixMilli() != ms {
			t.Fatalf("%s: %d, want %v %v", text, ms, want, err)
		}
	}
	if short < 50_000 {
		t.Errorf("only %d of 200,000 dates are short", short)
	}
}
