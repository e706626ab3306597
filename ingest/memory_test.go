package ingest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// TestForeignMemory decodes every recorded request with one decoder, again and
// again, each time overwriting the body and decoding others, as the edge does:
// what a decoder with memory of its own finds is found, and texts and attributes
// that were given out stay.
func TestForeignMemory(t *testing.T) {
	d := new(decoding)
	var kept [][]event.One
	var want []string
	for round := range 3 {
		for _, c := range sdks {
			for i, one := range captures(t, c.capture) {
				fresh, err := DecodeBody(c.protocol, one, recorded)
				if err != nil {
					t.Fatal(err)
				}
				target, err := url.Parse(one.Target)
				if err != nil {
					t.Fatal(err)
				}
				req := dialect.Request{Method: one.Method, Target: target, Header: map[string]string{}, Now: recorded.UnixMilli()}
				for k, v := range one.Headers {
					req.Header[strings.ToLower(k)] = v
				}
				plain, f := new(unpacker).inflate(one.Body, encodingOf(c.protocol, &req))
				if f != nil {
					t.Fatalf("%+v", f)
				}
				body := bytes.Clone(plain)
				a, ok := d.decodeHere(c.protocol, &req, body)
				if !ok || a.Refusal != nil {
					t.Fatalf("%s %d: decoded %v, refused with %+v", c.capture, i, ok, a.Refusal)
				}
				for j := range body {
					body[j] = '#'
				}
				if got, want := fmt.Sprintf("%+v", a.Result), fmt.Sprintf("%+v", fresh); got != want {
					t.Fatalf("%s %d in round %d became\n%s\nwant\n%s", c.capture, i, round, got, want)
				}
				for j := range a.Result.Beacons {
					events := slices.Clone(a.Result.Beacons[j].Events) // lists are used again, and texts are not
					for k := range events {
						events[k].Attrs = slices.Clone(events[k].Attrs)
					}
					kept = append(kept, events)
					want = append(want, fmt.Sprintf("%+v", events))
				}
			}
		}
	}
	for i := range kept {
		if got := fmt.Sprintf("%+v", kept[i]); got != want[i] {
			t.Fatalf("events have changed to\n%s\nfrom\n%s", got, want[i])
		}
	}
}

// TestManySources has events of few and of many sessions by turns in one body: each
// session is one beacon for each 200 of its events, in the order in which it came.
func TestManySources(t *testing.T) {
	d := new(decoding)
	for _, sessions := range []int{1, 2, 8, 9, 10, 40, 3} {
		const rounds = 250
		var body strings.Builder
		body.WriteString(`{"resourceLogs":[`)
		for n := range sessions {
			fmt.Fprintf(&body, `%s{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}},{"key":"service.version","value":{"stringValue":"1"}}]},"scopeLogs":[{"logRecords":[`, strings.Repeat(",", min(n, 1)))
			for i := range rounds { // of a resource, by turns of all sessions
				fmt.Fprintf(&body, `%s{"eventName":"e","attributes":[{"key":"session.id","value":{"stringValue":"session-%d"}}]}`, strings.Repeat(",", min(i, 1)), (n*rounds+i)%sessions)
			}
			body.WriteString(`]}]}`)
		}
		body.WriteString(`]}`)
		req := dialect.Request{Method: http.MethodPost, Target: &url.URL{Path: "/v1/logs"}, Header: map[string]string{"content-type": "application/json"}, Now: recorded.UnixMilli()}
		a, ok := d.decodeHere("otlp", &req, []byte(body.String()))
		if !ok || a.Refusal != nil {
			t.Fatalf("decoded %v, refused with %+v", ok, a.Refusal)
		}
		var got, want []string
		for i := range a.Result.Beacons {
			got = append(got, fmt.Sprint(a.Result.Beacons[i].Session, " ", len(a.Result.Beacons[i].Events)))
		}
		for n := range sessions {
			want = append(want, fmt.Sprintf("session-%d %d", n, event.MaxEvents))
		}
		for n := range sessions {
			want = append(want, fmt.Sprintf("session-%d %d", n, rounds-event.MaxEvents))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d sessions became %v, want %v", sessions, got, want)
		}
	}
}

// TestHeaderOfTheRequestBefore sends requests over one connection, each of which
// has what the one before had, but for one thing.
func TestHeaderOfTheRequestBefore(t *testing.T) {
	e := newEdge(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	want := map[string]event.Tenancy{}
	for i, c := range []struct {
		path    string
		lines   string
		tenancy event.Tenancy
	}{
		{"/faro/collect/pk_open", "Baggage: serin.tenancy=test\r\n", event.Test},
		{"/faro/collect/pk_open", "Baggage: serin.tenancy=test\r\n", event.Test},
		{"/faro/collect/pk_open", "Baggage: serin.tenancy=shadow\r\n", event.Shadow},
		{"/faro/collect/pk_open", "", event.Production},
		{"/faro/collect", "X-Api-Key: pk_open\r\n", event.Production},
		{"/faro/collect", "X-Api-Key: pk_open\r\nBaggage: serin.tenancy=test\r\nBaggage: serin.tenancy=shadow\r\n", event.Shadow},
		{"/faro/collect", "X-Api-Key: pk_open\r\nX-Api-Key: none\r\n", event.Production},
		{"/faro/collect?key=pk_open", "Baggage: serin.tenancy=shadow\r\n", event.Shadow},
		{"/faro/collect?key=pk_open", "", event.Production},
	} {
		session := fmt.Sprintf("session-%d", i)
		want[session] = c.tenancy
		body := fmt.Sprintf(`{"meta":{"app":{"name":"a","version":"1"},"session":{"id":%q}},"events":[{"name":"x"}]}`, session) + strings.Repeat(" ", i%3)
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s", c.path, len(body), c.lines, body); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body) // its status is what is asked for
		if res.StatusCode != http.StatusAccepted {
			t.Errorf("request %d: %d %s", i, res.StatusCode, text)
		}
	}
	got := e.tenancies(t)
	for session, tenancy := range want {
		if got[session] != tenancy {
			t.Errorf("%s is stored as %s, want %s", session, got[session], tenancy)
		}
	}
}

// TestFieldsAreKept sends other header lines on the exchange of a request before.
func TestFieldsAreKept(t *testing.T) {
	var f textField
	for _, c := range [][2]string{{"User-Agent", "a"}, {"User-Agent", "a"}, {"User-Agent", "b"}, {"user-agent", "b"}, {"X-Api-Key", "b"}, {"X-Api-Key", ""}, {"", ""}} {
		name, value := []byte(c[0]), []byte(c[1])
		f.set(name, value)
		for _, b := range [][]byte{name, value} {
			for i := range b {
				b[i] = '#'
			}
		}
		if f.name != strings.ToLower(c[0]) || f.value != c[1] {
			t.Errorf("%q became %+v", c, f)
		}
	}
}
