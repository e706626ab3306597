package lot

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func newLot(t testing.TB) *Lot {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// parking is a place with its connection.
type parking struct {
	Place
	raw syscall.RawConn
}

type wakes func()

func (w wakes) Woken() { w() }

func (p *parking) park(woken func()) error { return p.Park(p.raw, wakes(woken)) }

// pair returns both ends of a connection, the first with its place.
func pair(t testing.TB, l *Lot) (net.Conn, *parking, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	theirs, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	raw, err := ours.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return ours, &parking{Place: l.Place(), raw: raw}, theirs
}

func TestWakes(t *testing.T) {
	for name, cause := range map[string]func(theirs net.Conn, p *parking, l *Lot) error{
		"something to read": func(theirs net.Conn, _ *parking, _ *Lot) error { _, err := theirs.Write([]byte("x")); return err },
		"the other's end":   func(theirs net.Conn, _ *parking, _ *Lot) error { return theirs.Close() },
		"half an end":       func(theirs net.Conn, _ *parking, _ *Lot) error { return theirs.(*net.TCPConn).CloseWrite() },
		"a reset": func(theirs net.Conn, _ *parking, _ *Lot) error {
			return errors.Join(theirs.(*net.TCPConn).SetLinger(0), theirs.Close())
		},
		"Wake":         func(_ net.Conn, p *parking, _ *Lot) error { p.Wake(); return nil },
		"the lot ends": func(_ net.Conn, _ *parking, l *Lot) error { return l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			for _, before := range []bool{false, true} {
				l := newLot(t)
				_, p, theirs := pair(t, l)
				if before && (name == "Wake" || name == "the lot ends") {
					continue // is nothing that stays
				}
				if before {
					if err := cause(theirs, p, l); err != nil {
						t.Fatal(err)
					}
				}
				woken := make(chan struct{}, 2)
				if err := p.park(func() { woken <- struct{}{} }); err != nil {
					t.Fatal(err)
				}
				if !before {
					select {
					case <-woken:
						t.Fatal("woken by nothing")
					case <-time.After(20 * time.Millisecond):
					}
					if l.Len() != 1 {
						t.Errorf("%d are parked, want 1", l.Len())
					}
					if err := cause(theirs, p, l); err != nil {
						t.Fatal(err)
					}
				}
				<-woken
				p.Wake()
				select {
				case <-woken:
					t.Error("woken twice")
				case <-time.After(20 * time.Millisecond):
				}
				if l.Len() != 0 {
					t.Errorf("%d are parked, want none", l.Len())
				}
			}
		})
	}
}

func TestParkFails(t *testing.T) {
	l := newLot(t)
	ours, p, _ := pair(t, l)
	_ = ours.Close()
	if err := p.park(func() { t.Error("woken") }); !errors.Is(err, net.ErrClosed) || l.Len() != 0 {
		t.Errorf("a closed connection: %v, %d parked", err, l.Len())
	}
	_, p, _ = pair(t, l)
	_ = l.Close()
	if err := p.park(func() { t.Error("woken") }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed lot: %v", err)
	}
}

// TestTraffic: connections that are parked whenever there is nothing to read lose no byte,
// with wakes by others in between.
func TestTraffic(t *testing.T) {
	const conns, bytes = 100, 200
	l := newLot(t)
	var wg sync.WaitGroup
	for range conns {
		ours, p, theirs := pair(t, l)
		wg.Add(1)
		got := 0
		var serve func()
		serve = func() {
			for {
				_ = ours.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(100)) * time.Microsecond))
				n, err := ours.Read(make([]byte, 16))
				got += n
				switch {
				case errors.Is(err, os.ErrDeadlineExceeded):
					if err := p.park(serve); err != nil {
						t.Error(err)
						wg.Done()
					}
					return
				case err != nil:
					if err != io.EOF || got != bytes {
						t.Errorf("%d bytes, then %v, want %d", got, err, bytes)
					}
					wg.Done()
					return
				}
			}
		}
		go serve()
		go func() {
			for i := range bytes {
				if _, err := theirs.Write([]byte{byte(i)}); err != nil {
					t.Error(err)
				}
				if rand.IntN(4) == 0 {
					time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
				}
				if rand.IntN(4) == 0 {
					p.Wake()
				}
			}
			_ = theirs.Close()
		}()
	}
	wg.Wait()
}
