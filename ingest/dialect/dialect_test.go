package dialect

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/event"
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

// TestClockAhead: where the protocol does not say when it was sent, an event from
// the future is one of now, and still another than the same a second later; where
// it does, the edge corrects by the difference.
func TestClockAhead(t *testing.T) {
	const now = 1795538530_000
	one := func(sent, at int64) event.Beacon {
		b := NewBuilder(&Request{Now: now})
		b.Add(Source{App: "a", Release: "1", Session: "session-1", Sent: sent}, event.One{Kind: event.View, Name: "/", Time: at})
		return b.Result().Beacons[0]
	}
	const minute, day, year = 60_000, 24 * 60 * 60_000, 365 * 24 * 60 * 60_000
	for _, c := range []struct{ sent, at, want int64 }{
		{0, now - minute, now - minute},
		{0, now + 10*minute, now},
		{0, now + day, now},
		{0, now + year, now + year}, // no clock at all
		{now + 10*minute, now + 9*minute, now + 9*minute},
	} {
		if got := one(c.sent, c.at).Events[0].Time; got != c.want {
			t.Errorf("sent %d, at %d: %d, want %d", c.sent-now, c.at-now, got-now, c.want-now)
		}
	}
	if one(0, now+minute).Seq == one(0, now+2*minute).Seq {
		t.Error("two events of a clock that is ahead are one")
	}
}
