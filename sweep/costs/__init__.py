"""What a study costs in money on a cluster that is rented: machines of a cluster file, their prices, interruptions."""

from sweep.costs.bill import Bill, bill
from sweep.costs.cluster_file import ClusterFile, NodeType, read_cluster_file

__all__ = ["Bill", "ClusterFile", "NodeType", "bill", "read_cluster_file"]
