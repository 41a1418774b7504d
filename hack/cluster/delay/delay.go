// Package delay makes the nodes seem far from each other: every packet between two of them is held back for a time. The
// kernel hands each packet's number to this program and sends it on when told to, so that no kernel module for network
// emulation is needed. When the program ends, however it ends, packets pass at once again.
package delay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
)

const (
	queueNumber = 77
	// mostHeld bounds the packets that wait on one node; the kernel drops what comes on top, as a full buffer would.
	mostHeld = 1 << 16
)

// Begin holds packets between nodes back for d, in each direction, until the context ends; then end must be called.
func Begin(ctx context.Context, d time.Duration) (end func() error, err error) {
	var ends []func() error
	end = func() error {
		var all error
		for _, one := range ends {
			all = errors.Join(all, one())
		}
		return all
	}
	for _, node := range layout.Nodes() {
		one, err := hold(ctx, node, d)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("delaying what %s sends: %w", node.Name, err), end())
		}
		ends = append(ends, one)
	}
	return end, nil
}

// hold begins with what one node and its pods send to the others.
func hold(ctx context.Context, node layout.Machine, d time.Duration) (end func() error, err error) {
	file, err := os.Open(filepath.Join(machine.NamespaceFolder, node.Namespace()))
	if err != nil {
		return nil, fmt.Errorf("%w: run up first", err)
	}
	defer file.Close()
	queue, err := nfqueue.Open(&nfqueue.Config{
		NetNS: int(file.Fd()), NfQueue: queueNumber, MaxQueueLen: mostHeld, Copymode: nfqueue.NfQnlCopyMeta, WriteTimeout: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("opening a packet queue: %w: the kernel needs NETFILTER_NETLINK_QUEUE", err)
	}
	if err := queue.SetOption(netlink.NoENOBUFS, true); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up the packet queue: %w", err), queue.Close())
	}
	line := make(chan packet, mostHeld)
	take := func(a nfqueue.Attribute) int {
		if a.PacketID != nil {
			line <- packet{*a.PacketID, time.Now().Add(d)}
		}
		return 0
	}
	if err := queue.RegisterWithErrorFunc(ctx, take, func(error) int { return 0 }); err != nil {
		return nil, errors.Join(fmt.Errorf("registering for packets: %w", err), queue.Close())
	}
	go release(ctx, queue, line)
	if err := lead(node, "-A"); err != nil {
		return nil, errors.Join(err, queue.Close())
	}
	return func() error { return errors.Join(lead(node, "-D"), queue.Close()) }, nil
}

type packet struct {
	id  uint32
	due time.Time
}

// release sends packets on in the order in which they came.
func release(ctx context.Context, queue *nfqueue.Nfqueue, line <-chan packet) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-line:
			time.Sleep(time.Until(p.due))
			// A packet whose verdict fails stays held and is lost: TCP sends it again.
			_ = queue.SetVerdict(p.id, nfqueue.NfAccept)
		}
	}
}

// lead leads the node's packets to the others through the queue, or (-D) past it. Should nobody read the queue, they pass.
func lead(node layout.Machine, change string) error {
	var others []string
	for _, other := range layout.Nodes() {
		if other.Name != node.Name {
			others = append(others, other.Address, other.PodCIDR)
		}
	}
	rule := []string{"-w", "5", "-t", "mangle", change, "POSTROUTING", "-o", "eth0", "-d", strings.Join(others, ","),
		"-j", "NFQUEUE", "--queue-num", strconv.Itoa(queueNumber), "--queue-bypass"}
	return machine.InNetwork(node.Namespace(), func() error {
		if output, err := exec.Command("iptables", rule...).CombinedOutput(); err != nil {
			return fmt.Errorf("running iptables %s: %w: %s", strings.Join(rule, " "), err, bytes.TrimSpace(output))
		}
		return nil
	})
}
