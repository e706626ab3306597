package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/ingest"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// decoded is one canonical event as decode prints it: the columns of the event
// schema by their names, and the request class.
type decoded struct {
	Kind       string         `json:"kind"`
	Name       string         `json:"name"`
	Value      *float64       `json:"value"`
	Unit       string         `json:"unit"`
	App        string         `json:"app"`
	Release    string         `json:"release"`
	Session    string         `json:"session"`
	User       string         `json:"user"`
	Class      string         `json:"class"`
	Tenancy    string         `json:"tenancy"`
	SDK        string         `json:"sdk"`
	Env        string         `json:"env"`
	Platform   string         `json:"platform"`
	OS         string         `json:"os"`
	Browser    string         `json:"browser"`
	Device     string         `json:"device"`
	Network    string         `json:"network"`
	Page       string         `json:"page"`
	Seq        uint32         `json:"seq"`
	TimeMS     int64          `json:"time_ms"`
	ReceivedMS int64          `json:"received_ms"`
	Message    string         `json:"message,omitempty"`
	Stack      string         `json:"stack,omitempty"`
	Attrs      map[string]any `json:"attrs,omitempty"`
}

// decode prints what a recorded request is decoded into, so that a user finds
// out why a beacon is not seen.
func decode(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("decode", flag.ContinueOnError)
	headers := fs.String("headers", "", "JSON `file` with method, target and headers of the request")
	now := fs.Int64("now", 0, "receive time in Unix `ms`; default the present")
	fs.Usage = func() {
		fmt.Fprintf(stderr, "usage: serin decode PROTOCOL [--headers FILE] [BODY]\nPROTOCOL is one of %s; BODY is a file, standard input where it is absent or -.\n", strings.Join(ingest.Protocols(), ", "))
		fs.PrintDefaults()
	}
	n := 1
	if positional(args, "headers", "now") == 2 {
		n = 2
	}
	rest, err := parse(fs, args, n, stderr)
	if err != nil {
		return err
	}
	var c ingest.Capture
	if *headers != "" {
		text, err := os.ReadFile(*headers)
		if err != nil {
			return fmt.Errorf("read the headers: %w", err)
		}
		if err := json.Unmarshal(text, &c); err != nil {
			return fmt.Errorf("%s: want {\"method\":...,\"target\":...,\"headers\":{...}}: %w", *headers, err)
		}
	}
	in := io.Reader(os.Stdin)
	if n == 2 && rest[1] != "-" {
		f, err := os.Open(rest[1])
		if err != nil {
			return fmt.Errorf("open the body: %w", err)
		}
		defer f.Close()
		in = f
	}
	if c.Body, err = io.ReadAll(io.LimitReader(in, 2*event.MaxBody)); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	at := time.Now()
	if *now != 0 {
		at = time.UnixMilli(*now)
	}
	res, err := ingest.DecodeBody(rest[0], c, at)
	var bad *dialect.Error
	if errors.As(err, &bad) {
		return fmt.Errorf("%s: %w", bad.Reason, err)
	}
	if err != nil {
		return err
	}
	out := json.NewEncoder(stdout)
	out.SetEscapeHTML(false)
	for i := range res.Beacons {
		b := &res.Beacons[i]
		for j := range b.Events {
			if err := out.Encode(row(b, &b.Events[j], at.UnixMilli())); err != nil {
				return fmt.Errorf("print an event: %w", err)
			}
		}
	}
	for _, d := range res.Drops {
		count := float64(d.Count)
		one := event.One{Kind: event.Drop, Name: d.Cause, Value: count, HasVal: true, Time: at.UnixMilli()}
		if err := out.Encode(row(&event.Beacon{}, &one, at.UnixMilli())); err != nil {
			return fmt.Errorf("print a drop: %w", err)
		}
	}
	for _, r := range res.Rejected {
		fmt.Fprintf(stderr, "rejected item %d: %s: %s: %q: want %s\n", r.Index, r.Reason, r.Field, r.Value, r.Want)
	}
	for _, item := range slices.Sorted(maps.Keys(res.Ignored)) {
		fmt.Fprintf(stderr, "not used: %d of type %q\n", res.Ignored[item], item)
	}
	return nil
}

func row(b *event.Beacon, e *event.One, now int64) decoded {
	d := decoded{Kind: e.Kind.String(), Name: e.Name, Unit: e.Unit, App: b.App, Release: string(b.Release), Session: b.Session, User: b.User,
		Class: event.ClassOf(b.Tenancy, e).String(), Tenancy: b.Tenancy.String(), SDK: b.SDK, Env: b.Ctx.Env, Platform: b.Ctx.Platform, OS: b.Ctx.OS,
		Browser: b.Ctx.Browser, Device: b.Ctx.Device, Network: b.Ctx.Network, Page: b.Ctx.Page, Seq: b.Seq, TimeMS: e.Time, ReceivedMS: now,
		Message: e.Message, Stack: e.Stack}
	if e.HasVal {
		d.Value = &e.Value
	}
	for _, a := range e.Attrs {
		if d.Attrs == nil {
			d.Attrs = map[string]any{}
		}
		switch {
		case a.Num:
			d.Attrs[a.Key] = a.Number
		case a.Text == "true" || a.Text == "false":
			d.Attrs[a.Key] = a.Text == "true"
		default:
			d.Attrs[a.Key] = a.Text
		}
	}
	return d
}

// positional counts the arguments that are neither flags nor the values of
// flags of the given names.
func positional(args []string, valued ...string) int {
	n := 0
	for i := 0; i < len(args); i++ {
		name := strings.TrimLeft(args[i], "-")
		switch {
		case !strings.HasPrefix(args[i], "-") || args[i] == "-":
			n++
		default:
			for _, v := range valued {
				if name == v {
					i++ // its value
				}
			}
		}
	}
	return n
}
