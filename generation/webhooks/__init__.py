"""Webhooks: the events of requests and batches, sent to the addresses that their owners name.

A trigger notes each event in the transaction of the status change. The deliverer process fans the events out into one
delivery for each target, and sends these, signed by the rules of Standard Webhooks, until they succeed or are given up.
"""
