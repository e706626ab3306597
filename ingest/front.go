package ingest

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/lane"
	"serin.dev/serin/internal/event"
)

// Front returns the edge as the handler of a lane.
func (e *Edge) Front() lane.Handler { return front{e} }

// MaxBody is how many bytes a request's body may have.
const MaxBody = event.MaxBody

// TooLarge answers a request whose body is larger.
func TooLarge(x *lane.Exchange) {
	var a answer
	a.cors(string(x.Get("origin")))
	length, _ := strconv.ParseInt(string(x.Get("content-length")), 10, 64) // digits, or the lane would have handed it over
	refuse(&a, "", tooLarge(length))
	a.send(x)
}

// front serves the routes of beacons in a lane.
type front struct{ e *Edge }

const nativePath = "/v1/beacons"

// Match reports whether a path is one of the edge's that take posts.
func (f front) Match(path []byte) bool {
	if string(path) == nativePath {
		return true
	}
	p, _ := routed(path)
	return p != nil
}

// Begin checks the key before the body is read.
func (f front) Begin(x *lane.Exchange) lane.Verdict {
	wk, _ := x.User.(*work)
	if wk == nil {
		wk = new(work)
		x.User = wk
	}
	a := &wk.answer
	a.reset()
	if string(x.Path) != nativePath {
		return f.beginForeign(x, wk)
	}
	wk.head = head{key: queryKey(string(x.Query)), origin: string(x.Get("origin")), ctype: string(x.Get("content-type")),
		encoding: string(x.Get("content-encoding")), baggage: fieldOf(x)("Baggage")}
	g, ref := f.e.nativeHead(a, &wk.head, x.Peer().Addr(), fieldOf(x))
	if ref != nil {
		refuse(a, name(g), ref)
		a.send(x)
		return lane.Done
	}
	wk.grant = g
	return lane.Go
}

// fieldOf reads the fields of a request as [headerOf] does.
func fieldOf(x *lane.Exchange) func(string) string {
	return func(name string) string {
		value := ""
		x.Fields(func(n, v []byte) {
			if len(n) != len(name) || !strings.EqualFold(string(n), name) {
				return
			}
			if value != "" {
				value += ","
			}
			value += string(v)
		})
		return value
	}
}

// Serve serves a request whose body is there.
func (f front) Serve(x *lane.Exchange) {
	wk := x.User.(*work)
	if wk.spent == nil {
		wk.spent = x.Spent // they stay together
	}
	if string(x.Path) == nativePath {
		f.e.native(context.Background(), wk, wk.grant, &wk.head, x.Body)
	} else {
		f.e.foreign(context.Background(), wk, x.Body)
	}
	wk.answer.send(x)
}

// send makes an answer the reply of a lane.
func (a *answer) send(x *lane.Exchange) {
	x.Status, x.Type = a.status, a.ctype
	for _, h := range a.header {
		x.Set(h[0], h[1])
	}
	x.Reply = append(x.Reply[:0], a.body...)
}

// textField is a header line of the request before, which the next one on the
// connection mostly repeats.
type textField struct {
	raw, name, value string // raw is the name as it was sent, name in lower case
}

// set makes a line of bytes that may be overwritten, and reports whether they are
// what it is already; it allocates where they are not.
func (f *textField) set(name, value []byte) (same bool) {
	same = true
	if f.raw != string(name) {
		f.raw = string(name)
		f.name = strings.ToLower(f.raw)
		same = false
	}
	if f.value != string(value) {
		f.value = string(value)
		same = false
	}
	return same
}

// headerOf fills in what decoders see of the request's fields, by their names in
// lower case. Of one that is there twice the first counts, but of baggage, whose lines
// are members of one list (W3C Baggage, section 3.1), both. The length of the body
// is left out: it is the one that differs from request to request, and without it
// the map of the request before mostly stays as it is.
func (wk *work) headerOf(x *lane.Exchange) map[string]string {
	n, same := 0, true
	x.Fields(func(name, value []byte) {
		if len(name) == len("content-length") && strings.EqualFold(string(name), "content-length") {
			return
		}
		if n == len(wk.fields) {
			wk.fields = append(wk.fields, textField{})
		}
		same = wk.fields[n].set(name, value) && same
		n++
	})
	same = same && n == len(wk.fields)
	clear(wk.fields[n:])
	wk.fields = wk.fields[:n]
	header := wk.visit.req.Header
	if same && header != nil {
		return header // nobody writes to it but place, which takes out what it took out before
	}
	if header == nil {
		header = make(map[string]string, n)
	}
	clear(header)
	for i := range wk.fields {
		f := &wk.fields[i]
		switch was, ok := header[f.name]; {
		case !ok:
			header[f.name] = f.value
		case f.name == "baggage":
			header[f.name] = was + "," + f.value
		}
	}
	return header
}

// targetOf returns the request's target, in the place of the one before.
func (wk *work) targetOf(x *lane.Exchange) *url.URL {
	t := &wk.target
	if t.Path != string(x.Path) || t.RawQuery != string(x.Query) {
		*t = url.URL{Path: string(x.Path), RawQuery: string(x.Query)}
	}
	return t
}

// beginForeign fills in what a foreign decoder sees of a request.
func (f front) beginForeign(x *lane.Exchange, wk *work) lane.Verdict {
	p, key := routed(x.Path)
	now := f.e.o.Now()
	wk.visit = visit{p: p, req: dialect.Request{Method: http.MethodPost, Target: wk.targetOf(x), Header: wk.headerOf(x), Now: now.UnixMilli(), Key: key}}
	v := &wk.visit
	// The addresses that proxies name are asked for now and at the end of the
	// visit; decoders never see them.
	f.e.place(v, x.Peer().Addr(), fieldOf(x))
	if v.req.Key == "" {
		v.req.Key = p.key(&v.req)
	}
	if v.req.Key == "" && p.keyInBody(&v.req) {
		return lane.Hand
	}
	a := &wk.answer
	if ref := f.e.foreignHead(a, v); ref != nil {
		p.refuse(a, &v.req, ref)
		a.send(x)
		return lane.Done
	}
	return lane.Go
}
